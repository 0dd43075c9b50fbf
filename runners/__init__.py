"""Runner processes: started, watched, adopted after a restart of their keeper, ended. For labd and agents alike."""

"""Who gets which bench, and when: pure functions of what labd knows and of the hour that it passes in.

``decide.decide(lab, rules)`` is one decision pass; ``booking`` and ``explain`` answer questions about the same lab.
What they take is in ``wish`` (what somebody asks for), ``lab`` (what there is) and ``rules`` (what the lab allows).
All times are seconds since the Unix epoch on labd's clock, all durations seconds.
"""

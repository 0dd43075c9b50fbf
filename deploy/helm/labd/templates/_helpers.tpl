{{- define "labd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of what a component's Service and policies select: (list $ "daemon"). */}}
{{- define "labd.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "labd.labels" -}}
{{- $root := index . 0 -}}
{{ include "labd.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* (list $ "runner") */}}
{{- define "labd.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "labd.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Pod Security "restricted"; (dict "user" 10001). */}}
{{- define "labd.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "labd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "labd.keysSecret" -}}
{{ default (printf "%s-keys" (include "labd.fullname" .)) .Values.keys.existingSecret }}
{{- end -}}

{{/* How pods of this cluster reach labd. */}}
{{- define "labd.host" -}}
{{ include "labd.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "labd.runsNamespace" -}}
{{ default .Release.Namespace .Values.runs.namespace }}
{{- end -}}

{{- define "labd.databaseUrl" -}}
{{- if eq .Values.database.mode "bundled" -}}
postgresql://labd@{{ include "labd.fullname" . }}-postgresql:5432/labd
{{- else -}}
{{ .Values.database.external.url }}
{{- end -}}
{{- end -}}

{{- define "labd.databaseEnv" -}}
{{- if ne .Values.database.mode "sqlite" }}
- name: LABD_DATABASE
  value: {{ include "labd.databaseUrl" . | quote }}
{{- if eq .Values.database.mode "bundled" }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "labd.fullname" . }}-postgresql, key: password}}
{{- else if .Values.database.external.passwordSecret.name }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.database.external.passwordSecret.name }}, key: {{ .Values.database.external.passwordSecret.key }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* A password that stays the same over upgrades: (list $ "secret's name" "key"). */}}
{{- define "labd.password" -}}
{{- $root := index . 0 -}}
{{- $there := lookup "v1" "Secret" $root.Release.Namespace (index . 1) -}}
{{- if and $there (hasKey (default dict $there.data) (index . 2)) -}}
{{ index $there.data (index . 2) }}
{{- else -}}
{{ randAlphaNum 32 | b64enc }}
{{- end -}}
{{- end -}}

{{- define "labd.influxSecret" -}}
{{ ternary (printf "%s-influxdb" (include "labd.fullname" .)) .Values.influxdb.external.tokenSecret.name (eq .Values.influxdb.mode "bundled") }}
{{- end -}}

{{/* The file of `labd serve --access`: the operator's service account, beside whom the values name. */}}
{{- define "labd.access" -}}
{{- $access := deepCopy .Values.labd.access -}}
{{- if .Values.operator.enabled -}}
{{- $teams := ternary (list .Values.operator.team) (uniq (values .Values.operator.namespaces | sortAlpha)) (empty .Values.operator.namespaces) -}}
{{- $grants := list -}}
{{- range $teams -}}
{{- $grants = append $grants (dict "claims" (dict "namespace" $.Release.Namespace "serviceaccount" (printf "%s-operator" (include "labd.fullname" $))) "team" . "role" "engineer" "scopes" (list "read" "run")) -}}
{{- end -}}
{{- $own := dict "name" "operator" "issuer" .Values.operator.issuer "url" "https://kubernetes.default.svc" "grants" $grants -}}
{{- $_ := set $access "kubernetes" (prepend (default list $access.kubernetes) $own) -}}
{{- end -}}
{{- if $access }}{{ toYaml $access }}{{ end -}}
{{- end -}}

{{/* The file of `labd serve --clusters`. */}}
{{- define "labd.clusters" -}}
{{- $own := dict "name" "here" "default" true "namespace" (include "labd.runsNamespace" .) "image" (include "labd.image" (list . "runner")) "pull_policy" .Values.images.pullPolicy "identity" .Values.runs.identity "service_account" (printf "%s-run" (include "labd.fullname" .)) "url" (printf "https://%s:8470" (include "labd.host" .)) -}}
{{- with .Values.images.pullSecrets }}{{- $_ := set $own "pull_secrets" . -}}{{- end -}}
{{- dict "clusters" (prepend .Values.runs.moreClusters (mustMergeOverwrite $own .Values.runs.cluster)) | toYaml -}}
{{- end -}}

{{/* What cannot work is refused before anything is installed. */}}
{{- define "labd.check" -}}
{{- if and (gt (int .Values.labd.replicas) 1) (eq .Values.database.mode "sqlite") -}}
{{- fail "labd.replicas: more than one labd takes PostgreSQL; set database.mode to external or bundled" -}}
{{- end -}}
{{- if and (eq .Values.database.mode "external") (not .Values.database.external.url) -}}
{{- fail "database.external.url: with database.mode external, say where the database is: postgresql://labd@db.example.com:5432/labd" -}}
{{- end -}}
{{- if eq .Values.influxdb.mode "external" -}}
{{- if not (and .Values.influxdb.external.url .Values.influxdb.external.org .Values.influxdb.external.tokenSecret.name) -}}
{{- fail "influxdb.external: with influxdb.mode external, say url, org and tokenSecret.name" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.agents.enabled (not .Values.agents.nodes) (not .Values.agents.existingConfigMap) -}}
{{- fail "agents.nodes: with agents.enabled, say what the agent of each node serves, or name agents.existingConfigMap" -}}
{{- end -}}
{{- if and .Values.agents.devices (not .Values.agents.privileged) -}}
{{- fail "agents.devices: a device of the node takes agents.privileged: true; a device plugin and agents.resources do without" -}}
{{- end -}}
{{- range .Values.labd.access.kubernetes -}}
{{- if and $.Values.operator.enabled (eq .issuer $.Values.operator.issuer) -}}
{{- fail "labd.access.kubernetes: this cluster's issuer is the operator's already; two providers cannot have one issuer: disable the operator, or have it in a release of its own" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.prometheus.serviceMonitor.enabled (not .Values.prometheus.enabled) -}}
{{- fail "prometheus.serviceMonitor: there is nothing to fetch without prometheus.enabled" -}}
{{- end -}}
{{- if and .Values.operator.enabled (eq .Values.operator.executor "kubernetes") (not .Values.runs.enabled) -}}
{{- fail "operator.executor: there are no test pods without runs.enabled; say process or bench, or disable the operator" -}}
{{- end -}}
{{- if and .Values.prometheus.topas (not .Values.prometheus.enabled) -}}
{{- fail "prometheus.topas: there is nothing to fetch without prometheus.enabled" -}}
{{- end -}}
{{- if and .Values.prometheus.enabled (eq (int .Values.prometheus.agentsPort) (int .Values.agents.port)) -}}
{{- fail "prometheus.agentsPort: agents take leases at this port; choose another" -}}
{{- end -}}
{{- if and .Values.networkPolicy.egress.enabled (or .Values.runs.enabled .Values.operator.enabled) (not .Values.networkPolicy.egress.destinations) -}}
{{- fail "networkPolicy.egress.destinations: labd talks to the API server: say where that is; `kubectl get endpoints kubernetes` does" -}}
{{- end -}}
{{- range .Values.agents.simulators.ecus -}}
{{- if not (has .interface $.Values.agents.simulators.interfaces) -}}
{{- fail (printf "agents.simulators.ecus: %s is on %s, which is none of agents.simulators.interfaces" .name .interface) -}}
{{- end -}}
{{- if and (not $.Values.agents.existingConfigMap) (not (hasKey $.Values.agents.files .file)) -}}
{{- fail (printf "agents.simulators.ecus: %s has the file %s, which is none of agents.files" .name .file) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The release's name for everything, at most 40 characters: the longest suffix and the labels that controllers add to
names still fit into 63. A name that is cut gets a hash, so that two long ones stay apart. Releases may have dots and begin
with a digit; Services must not, before Kubernetes 1.36. */}}
{{- define "heliograph.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name = contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{- end -}}
{{- $name = $name | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $name -}}{{- $name = printf "r%s" $name -}}{{- end -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" ($name | trunc 31 | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What selects pods; never changes over the life of a release. Takes a dict of root and component. */}}
{{- define "heliograph.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels. Takes a dict of root, component, and optionally extra: labels that this object alone has. */}}
{{- define "heliograph.labels" -}}
{{ include "heliograph.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/part-of: heliograph
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with merge (dict) (default dict .extra) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "heliograph.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "heliograph.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "heliograph.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* job, startup or none. */}}
{{- define "heliograph.migrations" -}}
{{- $mode := .Values.migrations.mode -}}
{{- if eq $mode "auto" -}}
{{ .Values.postgres.embedded | ternary "startup" "job" }}
{{- else -}}
{{ $mode }}
{{- end -}}
{{- end -}}

{{/* Seconds from "this pod goes" to SIGKILL. */}}
{{- define "heliograph.grace" -}}
{{- $drain := .Values.drain -}}
{{- $needed := add (int $drain.preStopSeconds) (int $drain.windowSeconds) -}}
{{- if kindIs "invalid" $drain.terminationGracePeriodSeconds -}}
{{ add $needed 20 }}
{{- else -}}
{{ int $drain.terminationGracePeriodSeconds }}
{{- end -}}
{{- end -}}

{{/* A value of `config` as the environment takes it. Helm's numbers are floats, which print as 1.048576e+06. */}}
{{- define "heliograph.scalar" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* Container-level rights. */}}
{{- define "heliograph.container" -}}
image: {{ include "heliograph.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{/* Pod-level rights. Service links would put every Service of the namespace into the environment, among them
HELIOGRAPH_… of our own. */}}
{{- define "heliograph.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

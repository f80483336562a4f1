{{/* Which Secret has what, as a YAML list of secret, key and file: what a gateway finds below /etc/heliograph. */}}
{{- define "heliograph.secretFiles" -}}
{{- $own := include "heliograph.fullname" . -}}
{{- $auth := .Values.auth -}}
{{- if or $auth.existingSecret (not $auth.signingKeys.keys) $auth.signingSecret }}
- {secret: {{ default $own $auth.existingSecret | quote }}, key: {{ empty $auth.existingSecret | ternary "signing-secret" $auth.signingSecretKey | quote }}, file: signing-secret, variable: SIGNING_SECRET}
{{- end }}
- {secret: {{ default $own $auth.existingSecret | quote }}, key: {{ empty $auth.existingSecret | ternary "bootstrap-admin-key" $auth.bootstrapAdminKeyKey | quote }}, file: bootstrap-admin-key, variable: BOOTSTRAP_ADMIN_KEY}
{{ include "heliograph.databaseFile" . }}
- {secret: {{ default $own .Values.redis.existingSecret | quote }}, key: {{ empty .Values.redis.existingSecret | ternary "redis-url" .Values.redis.existingSecretKey | quote }}, file: redis-url, variable: REDIS_URL}
{{- with .Values.ice.turn }}
{{- if or .existingSecret .secret }}
- {secret: {{ default $own .existingSecret | quote }}, key: {{ empty .existingSecret | ternary "turn-secret" .existingSecretKey | quote }}, file: turn-secret, variable: TURN_SECRET}
{{- end }}
{{- end }}
{{- end -}}

{{- define "heliograph.databaseFile" -}}
- {secret: {{ default (include "heliograph.fullname" .) .Values.postgres.existingSecret | quote }}, key: {{ empty .Values.postgres.existingSecret | ternary "database-url" .Values.postgres.existingSecretKey | quote }}, file: database-url, variable: DATABASE_URL}
{{- end -}}

{{/* The same as the sources of a projected volume. Takes the list. */}}
{{- define "heliograph.projected" -}}
{{- range . }}
- secret:
    name: {{ .secret }}
    items:
      - {key: {{ .key | quote }}, path: {{ .file }}}
{{- end }}
{{- end -}}

{{/* The variables that name the files. Takes the list. */}}
{{- define "heliograph.fileVariables" -}}
{{- range . }}
- {name: HELIOGRAPH_{{ .variable }}_FILE, value: /etc/heliograph/{{ .file }}}
{{- end }}
{{- end -}}

{{/* The environment of a gateway, a YAML list without a name twice. */}}
{{- define "heliograph.env" -}}
- {name: HELIOGRAPH_LISTEN, value: "0.0.0.0:8080"}
- {name: HELIOGRAPH_OPS_LISTEN, value: "0.0.0.0:{{ .Values.ops.port }}"}
{{- if .Values.admin.separate }}
- {name: HELIOGRAPH_ADMIN_LISTEN, value: "0.0.0.0:{{ .Values.admin.port }}"}
{{- end }}
- {name: HELIOGRAPH_DRAIN_WINDOW, value: "{{ .Values.drain.windowSeconds }}s"}
{{- if eq (include "heliograph.migrations" .) "startup" }}
- {name: HELIOGRAPH_AUTO_MIGRATE, value: "true"}
{{- end }}
{{- with .Values.allowedOrigins }}
- {name: HELIOGRAPH_ALLOWED_ORIGINS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.trustedProxies }}
- {name: HELIOGRAPH_TRUSTED_PROXIES, value: {{ join "," . | quote }}}
{{- end }}
{{- include "heliograph.fileVariables" (include "heliograph.secretFiles" . | fromYamlArray) }}
{{- with .Values.auth.signingKeys }}
{{- if .keys }}
{{- $files := list }}
{{- range .keys }}{{- $files = append $files (printf "%s=/etc/heliograph/keys/%s" .kid .key) }}{{- end }}
- {name: HELIOGRAPH_SIGNING_KEY_FILES, value: {{ join "," $files | quote }}}
- {name: HELIOGRAPH_SIGNING_KID, value: {{ default (index .keys 0).kid .signWith | quote }}}
{{- end }}
{{- end }}
{{- if .Values.auth.apiKeys.existingSecret }}
- {name: HELIOGRAPH_API_KEYS_FILE, value: /etc/heliograph/api-keys.json}
{{- end }}
{{- with .Values.ice.urls }}
- {name: HELIOGRAPH_ICE_URLS, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.ice.turn }}
{{- if .urls }}
- {name: HELIOGRAPH_TURN_URLS, value: {{ join "," .urls | quote }}}
- {name: HELIOGRAPH_TURN_TTL, value: {{ .ttl | quote }}}
{{- end }}
{{- end }}
{{- range $key, $value := .Values.config }}
- {name: HELIOGRAPH_{{ upper $key }}, value: {{ include "heliograph.scalar" $value | quote }}}
{{- end }}
{{- with .Values.tracing }}
{{- if .endpoint }}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "k8s.namespace.name={{ $.Release.Namespace }},k8s.pod.name=$(POD_NAME)"}
- {name: HELIOGRAPH_TRACE_SAMPLE_RATIO, value: {{ include "heliograph.scalar" .sampleRatio | quote }}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

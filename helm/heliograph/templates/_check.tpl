{{/* What the schema cannot say: which values exclude or need each other. */}}
{{- define "heliograph.check" -}}
{{- $v := .Values -}}
{{- range $name, $part := dict "postgres" $v.postgres "redis" $v.redis -}}
{{- $ways := 0 -}}
{{- range list $part.embedded $part.url $part.existingSecret -}}{{- if . -}}{{- $ways = add1 $ways -}}{{- end -}}{{- end -}}
{{- if ne (int $ways) 1 -}}
{{- fail (printf "set exactly one of %s.existingSecret (production), %s.url, and %s.embedded=true (for a first try)" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.postgres.embedded (eq $v.migrations.mode "job") -}}
{{- fail "migrations.mode=job runs before the embedded Postgres exists: leave it at auto" -}}
{{- end -}}
{{- $least := add (int $v.drain.preStopSeconds) (int $v.drain.windowSeconds) 15 -}}
{{- if lt (int (include "heliograph.grace" .)) (int $least) -}}
{{- fail (printf "drain.terminationGracePeriodSeconds has to be at least %d: the pause before the stop, the drain window, and 15" $least) -}}
{{- end -}}
{{- with $v.ice.turn -}}
{{- if and .urls (not (or .existingSecret .secret)) -}}
{{- fail "ice.turn.urls need ice.turn.existingSecret, the secret that the TURN servers share" -}}
{{- end -}}
{{- end -}}
{{- with $v.auth.signingKeys -}}
{{- if and .keys (not .existingSecret) -}}
{{- fail "auth.signingKeys.keys are files of auth.signingKeys.existingSecret: name it" -}}
{{- end -}}
{{- $files := list -}}{{- range .keys -}}{{- $files = append $files .key -}}{{- end -}}
{{- if ne (len $files) (len (uniq $files)) -}}
{{- fail "auth.signingKeys.keys name a file twice" -}}
{{- end -}}
{{- if and (gt (len .keys) 1) (not .signWith) -}}
{{- fail "name which of auth.signingKeys.keys signs: auth.signingKeys.signWith" -}}
{{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (not (or $v.autoscaling.cpuUtilization $v.autoscaling.sessionsPerPod)) -}}
{{- fail "autoscaling needs something to look at: autoscaling.cpuUtilization, autoscaling.sessionsPerPod, or both" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is larger than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs has to name the Gateway" -}}
{{- end -}}
{{- $nothing := list "0" "0%" -}}
{{- if and (has (toString $v.updateStrategy.maxSurge) $nothing) (has (toString $v.updateStrategy.maxUnavailable) $nothing) -}}
{{- fail "updateStrategy.maxSurge and maxUnavailable cannot both be 0" -}}
{{- end -}}
{{- $ports := list 8080 (int $v.ops.port) -}}
{{- if $v.admin.separate -}}{{- $ports = append $ports (int $v.admin.port) -}}{{- end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- fail "a gateway cannot listen twice on one port: ops.port, admin.port and 8080, the public one, have to differ" -}}
{{- end -}}
{{- end -}}

{{/* Name of everything that the release owns. */}}
{{- define "wasm-interp.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* What a selector matches, which can never change. */}}
{{- define "wasm-interp.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wasm-interp.labels" -}}
{{ include "wasm-interp.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "wasm-interp.image" -}}
{{- with .Values.image -}}
{{ with .registry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "wasm-interp.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Nodes that the executables are built for. */}}
{{- define "wasm-interp.architectures" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - key: kubernetes.io/os
            operator: In
            values: [linux]
          - key: kubernetes.io/arch
            operator: In
            values: [amd64, arm64]
{{- end }}

{{/* Names of the Leases, as JSON: as many nodes may restart containerd as there are of them. */}}
{{- define "wasm-interp.leases" -}}
{{- $names := list -}}
{{- range $slot := until (int .Values.maxRestarting) -}}
{{- $names = append $names (printf "%s-restart-%d" (include "wasm-interp.name" $) $slot) -}}
{{- end -}}
{{ toJson $names }}
{{- end }}

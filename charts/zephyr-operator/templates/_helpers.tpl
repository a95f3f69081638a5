{{- define "zephyr-operator.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "zephyr-operator.labels" -}}
{{ include "zephyr-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: zephyr
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "zephyr-operator.selector" -}}
app.kubernetes.io/name: zephyr-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "zephyr-operator.signingKeySecret" -}}
{{- .Values.signingKeySecret | default (printf "%s-signing-key" (include "zephyr-operator.name" .)) -}}
{{- end -}}

{{- /* The label of the provider's preemptible nodes; empty if the provider is none. A test compares these labels with crds/src/preemptible.rs. */ -}}
{{- define "zephyr-operator.spotLabel" -}}
{{- $labels := dict
  "gke" (dict "key" "cloud.google.com/gke-spot" "value" "true")
  "eks" (dict "key" "eks.amazonaws.com/capacityType" "value" "SPOT")
  "aks" (dict "key" "kubernetes.azure.com/scalesetpriority" "value" "spot")
  "karpenter" (dict "key" "karpenter.sh/capacity-type" "value" "spot") -}}
{{- get $labels .Values.preemptible.provider | default dict | toYaml -}}
{{- end -}}

{{- /* Checks for which a schema could not give an understandable message. */ -}}
{{- define "zephyr-operator.check" -}}
{{- range $name := list "image" "workerImage" -}}
{{- $tag := (index $.Values $name).tag -}}
{{- if not $tag -}}
{{- fail (printf "%s.tag: is empty; the tag of a release, such as --set %s.tag=%s" $name $name $.Chart.AppVersion) -}}
{{- end -}}
{{- if eq $tag "latest" -}}
{{- fail (printf "%s.tag: must name a release (got latest); set the tag of a release, such as --set %s.tag=%s" $name $name $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- if ne (int .Values.replicas) 1 -}}
{{- fail (printf "replicas: must be 1 (got %d); there is no leader election yet, and one operator serves all jobs" (int .Values.replicas)) -}}
{{- end -}}
{{- if and (hasPrefix "http://" .Values.storage.endpoint) (not .Values.storage.allowHttp) -}}
{{- fail (printf "storage.endpoint: has no TLS (got %s); use an endpoint that begins with https://, or set --set storage.allowHttp=true" .Values.storage.endpoint) -}}
{{- end -}}
{{- end -}}

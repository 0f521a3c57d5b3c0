{{/* What the agent and its removal have in common: where they run, and what they may not. */}}
{{- define "imds-guard.place" -}}
hostNetwork: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
dnsPolicy: ClusterFirstWithHostNet
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions: {{- include "imds-guard.nodes" . | nindent 12 }}
            - { key: kubernetes.io/arch, operator: In, values: [amd64, arm64] }
{{- end }}

{{/* Nodes that have an IMDS of their own, and let a DaemonSet see to it. */}}
{{- define "imds-guard.nodes" -}}
- { key: kubernetes.io/os, operator: In, values: [linux] }
- { key: eks.amazonaws.com/compute-type, operator: NotIn, values: [fargate, auto, hybrid, hyperpod] }
{{- end }}

{{/* Given a list of capabilities beside the chart's values: daemonset/README.md says what each is for. */}}
{{- define "imds-guard.security" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
# Capabilities of a container are root's alone.
runAsUser: 0
runAsGroup: 0
capabilities:
  drop: [ALL]
  add: [{{ join ", " .capabilities }}]
seccompProfile: { type: RuntimeDefault }
{{- with .Values.seLinuxOptions }}
seLinuxOptions: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.appArmorProfile }}
appArmorProfile: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* IMDS_GUARD_LOCK_WAIT_SECONDS of lockWaitSeconds, as agent/config.ts has it. */}}
{{- define "imds-guard.variable" -}}
IMDS_GUARD_{{ regexReplaceAll "([A-Z])" . "_${1}" | upper }}
{{- end }}

{{- define "imds-guard.settings" -}}
{{- range $key, $value := .Values.settings }}
- { name: {{ include "imds-guard.variable" $key }}, value: {{ (kindIs "slice" $value | ternary (join "," (kindIs "slice" $value | ternary $value list)) $value) | toString | quote }} }
{{- end }}
{{- end }}

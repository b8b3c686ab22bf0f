{{/* Names and pieces that more than one template uses. */}}

{{/* The release's name, with "mountpod" in it. */}}
{{- define "mountpod.name" -}}
{{- $name := contains "mountpod" .Release.Name | ternary .Release.Name (printf "%s-mountpod" .Release.Name) -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. Arguments: root context, component. */}}
{{- define "mountpod.labels" -}}
{{ include "mountpod.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mountpod
{{- end -}}

{{/* Labels by which pods are found. Arguments: root context, component. */}}
{{- define "mountpod.selector" -}}
app.kubernetes.io/name: mountpod
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* An image of the project. Arguments: root context, its value. */}}
{{- define "mountpod.image" -}}
{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}

{{/* The node plugin's directory on the node. */}}
{{- define "mountpod.pluginDir" -}}
{{- $dir := printf "%s/plugins/%s/node" .Values.kubeletDir .Values.driverName -}}
{{- /* unix(7): a socket's path has at most 107 bytes. */ -}}
{{- if gt (len (printf "%s/csi.sock" $dir)) 107 -}}
{{- fail (printf "kubeletDir and driverName are too long together: the path of the socket, %s/csi.sock, has more than 107 bytes" $dir) -}}
{{- end -}}
{{- $dir -}}
{{- end -}}

{{/* Flags that name the roots of hostdir. */}}
{{- define "mountpod.rootFlags" -}}
{{- range .Values.hostdirRoots }}
- --hostdir-root={{ .name }}={{ .path }}{{ if .shared }},shared{{ end }}
{{- end }}
{{- end -}}

{{/* The roots of hostdir, at the paths that they have on the node. What is mounted on them later is seen too. */}}
{{- define "mountpod.rootMounts" -}}
{{- range .Values.hostdirRoots }}
- name: root-{{ .name }}
  mountPath: {{ .path }}
  mountPropagation: HostToContainer
{{- end }}
{{- end -}}

{{/* A shared root that is missing is one that is not mounted: the pod waits for it instead of filling the local disk. */}}
{{- define "mountpod.rootVolumes" -}}
{{- range .Values.hostdirRoots }}
- name: root-{{ .name }}
  hostPath:
    path: {{ .path }}
    type: {{ if .shared }}Directory{{ else }}DirectoryOrCreate{{ end }}
{{- end }}
{{- end -}}

{{/* What the driver's containers learn from the environment. */}}
{{- define "mountpod.env" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: MOUNTPOD_LOG_LEVEL
  value: {{ .Values.log.level }}
- name: MOUNTPOD_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end -}}

{{- define "mountpod.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The kubelet's question, which the livenessprobe container answers with what the driver's Probe call says. */}}
{{- define "mountpod.liveness" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ . }}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 5
{{- end -}}

{{/* A sidecar beside the driver's socket. Arguments: root context, container name, its value, more arguments. */}}
{{- define "mountpod.sidecar" -}}
{{- $root := index . 0 -}}
{{- $image := index . 2 -}}
- name: {{ index . 1 }}
  image: {{ $image.repository }}:{{ $image.tag }}
  imagePullPolicy: {{ $root.Values.imagePullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    {{- range index . 3 }}
    - {{ . }}
    {{- end }}
  # uid 0 because the socket belongs to root, mode 0600.
  securityContext:
    runAsUser: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  resources:
    {{- toYaml $root.Values.sidecars.resources | nindent 4 }}
  volumeMounts:
    - name: csi
      mountPath: /csi
      # Sessions lie below the same directory on a node: a copy of their mounts that no unmount reaches would keep them alive.
      mountPropagation: HostToContainer
{{- end -}}

{{/* What the schema can't say. */}}
{{- define "mountpod.check" -}}
{{- $names := list -}}
{{- range .Values.hostdirRoots -}}
{{- if has .name $names -}}
{{- fail (printf "hostdirRoots: the name %q stands there twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if and (not .shared) (not (index $.Values.controller.nodeSelector "kubernetes.io/hostname")) -}}
{{- fail (printf "controller.nodeSelector must name a node by kubernetes.io/hostname: the hostdir root %q is not shared, so a controller that moves to another node would lose its volumes" .name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.storageClasses -}}
{{- if and .root (not (has .root $names)) -}}
{{- fail (printf "storageClasses: %q wants the root %q, which hostdirRoots does not have" .name .root) -}}
{{- end -}}
{{- end -}}
{{- if eq .Release.Namespace .Values.mountPods.namespace -}}
{{- fail (printf "mountPods.namespace must not be the release's namespace %q: it holds privileged pods" .Release.Namespace) -}}
{{- end -}}
{{- end -}}

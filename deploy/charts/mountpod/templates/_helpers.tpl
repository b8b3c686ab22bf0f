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

{{/* Flags about mount pods, for every program that makes some. */}}
{{- define "mountpod.mountPodFlags" -}}
- --kubelet-dir={{ .Values.kubeletDir }}
- --namespace={{ .Values.mountPods.namespace }}
- --mount-image={{ include "mountpod.image" (list . .Values.images.mount) }}
- --image-pull-policy={{ .Values.imagePullPolicy }}
{{- range .Values.imagePullSecrets }}
- --image-pull-secret={{ . }}
{{- end }}
- --priority-class={{ .Values.mountPods.priorityClassName }}
{{- with .Values.mountPods.metricsPort }}
- --metrics-port={{ . }}
{{- end }}
{{- range .Values.mountPods.hostDirectories }}
- --host-directory={{ . }}
{{- end }}
{{- end -}}

{{/* Directories of the node that mount pods may use, at their own paths: a new one is given to the mount pods' user, and the
     controller's client keeps quotas in databases there. */}}
{{- define "mountpod.hostDirectoryMounts" -}}
{{- range $number, $path := .Values.mountPods.hostDirectories }}
- name: node-{{ $number }}
  mountPath: {{ $path }}
  mountPropagation: HostToContainer
{{- end }}
{{- end -}}

{{- define "mountpod.hostDirectoryVolumes" -}}
{{- range $number, $path := .Values.mountPods.hostDirectories }}
- name: node-{{ $number }}
  hostPath:
    path: {{ $path }}
    type: DirectoryOrCreate
{{- end }}
{{- end -}}

{{/* What may be done to mount pods by a program that makes some, in their namespace only. */}}
{{- define "mountpod.mountPodRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs:
    # One watch of its own mount pods replaces reads; a list begins it.
    - list
    - watch
    # The first use of a volume on a node.
    - create
    # Refs of a mount pod are annotations, added and dropped by patches.
    - patch
    # The last ref has gone.
    - delete
    # A pod whose creation was answered "exists already", before the watch has told of it.
    - get
- apiGroups: [""]
  resources: [secrets]
  verbs:
    # Credentials of a client are kept beside its mount pod.
    - create
    # A client must be started again after the driver was. One whose files a mount pod is to have is looked for.
    - get
    # A Secret of that name is there already, from a creation whose answer was lost.
    - update
{{- end -}}

{{/* A container of the project that needs no privilege. */}}
{{- define "mountpod.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
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
    {{- include "mountpod.confined" . | nindent 4 }}
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
{{- $taken := list .Values.kubeletDir -}}
{{- range .Values.hostdirRoots -}}{{- $taken = append $taken .path -}}{{- end -}}
{{- $files := list -}}
{{- range .Values.juicefs.files -}}{{- $files = append $files .path -}}{{- end -}}
{{- range list (list "juicefs.files" $files) (list "mountPods.hostDirectories" .Values.mountPods.hostDirectories) -}}
{{- $value := index . 0 -}}
{{- range $path := index . 1 -}}
{{- range $taken -}}
{{- if or (hasPrefix (printf "%s/" .) (printf "%s/" $path)) (hasPrefix (printf "%s/" $path) (printf "%s/" .)) -}}
{{- fail (printf "%s: %q meets %q, which stands there, in hostdirRoots, in juicefs.files or as kubeletDir, too" $value $path .) -}}
{{- end -}}
{{- end -}}
{{- $taken = append $taken $path -}}
{{- end -}}
{{- end -}}
{{- if eq .Release.Namespace .Values.mountPods.namespace -}}
{{- fail (printf "mountPods.namespace must not be the release's namespace %q: it holds privileged pods" .Release.Namespace) -}}
{{- end -}}
{{- end -}}

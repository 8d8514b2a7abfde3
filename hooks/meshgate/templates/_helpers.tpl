{{- define "meshgate.image" -}}
{{- with .Values.image -}}
{{- $istio := printf "-istio%s" $.Values.targetVersion -}}
{{- if and (contains "-istio" .tag) (not (hasSuffix $istio .tag)) (not .digest) -}}
{{- fail (printf "image.tag %s is built with the istioctl of another release than targetVersion %s" .tag $.Values.targetVersion) -}}
{{- end -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default (print $.Chart.AppVersion $istio) }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "meshgate.labels" -}}
app.kubernetes.io/name: meshgate
app.kubernetes.io/part-of: istio-upgrade
{{- end -}}

{{/* What stage a gate's name begins with: Argo CD's tree shows no more than that name. */}}
{{- define "meshgate.subject" -}}
{{- get (dict "precheck" "control-plane" "controlplane" "control-plane" "ingress" "ingress-gateway" "dataplane" "data-plane") . -}}
{{- end -}}

{{/* Where a Job's reports are kept; empty: nowhere. */}}
{{- define "meshgate.reports" -}}
{{- with .root.Values -}}
{{- if .report.url -}}{{ trimSuffix "/" .report.url }}/{{ $.name }}
{{- else if .report.keep -}}configmap://{{ .report.namespace }}/{{ $.name }}-reports
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where the watch keeps what it saw, and the ingress gate finds it. */}}
{{- define "meshgate.watch" -}}
configmap://{{ .Values.report.namespace }}/ingress-gateway-watch
{{- end -}}

{{/* The container's own confinement: everything that a pod can be refused. */}}
{{- define "meshgate.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "meshgate.pod" -}}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "meshgate.podMetadata" -}}
labels:
  {{- include "meshgate.labels" . | nindent 2 }}
  sidecar.istio.io/inject: "false"
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  sidecar.istio.io/inject: "false"
{{- end -}}

{{/* The images that the target's programs are in, as JSON. */}}
{{- define "meshgate.targetImages" -}}
{{- with .Values -}}
{{- $pilot := .shadow.images.pilot | default (printf "docker.io/istio/pilot:%s" .targetVersion) -}}
{{- $proxy := .shadow.images.proxy | default (printf "docker.io/istio/proxyv2:%s" .targetVersion) -}}
{{- dict "pilot" $pilot "proxy" $proxy | toJson -}}
{{- end -}}
{{- end -}}

{{/* The init containers that bring the target's programs to /target, which is a volume of the pod. */}}
{{- define "meshgate.bringTarget" -}}
{{- $images := include "meshgate.targetImages" . | fromJson -}}
{{- $root := . -}}
{{- with .Values -}}
{{- if eq .shadow.from "copy" -}}
{{- range $name, $program := dict "pilot" "pilot-discovery" "proxy" "envoy" }}
- name: target-{{ $name }}
  image: {{ get $images $name }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [cp, /usr/local/bin/{{ $program }}, /target/]
  securityContext: {{ include "meshgate.confined" $root | nindent 4 }}
  resources: {{ toYaml $root.Values.resources | nindent 4 }}
  volumeMounts:
    - { name: target, mountPath: /target }
{{- end }}
{{- else -}}
- name: target
  image: {{ include "meshgate.image" $root }}
  imagePullPolicy: {{ .image.pullPolicy }}
  # what is in an image volume may not be run
  command: [cp, /pilot/usr/local/bin/pilot-discovery, /proxy/usr/local/bin/envoy, /target/]
  securityContext: {{ include "meshgate.confined" $root | nindent 4 }}
  resources: {{ toYaml .resources | nindent 4 }}
  volumeMounts:
    - { name: pilot, mountPath: /pilot, readOnly: true }
    - { name: proxy, mountPath: /proxy, readOnly: true }
    - { name: target, mountPath: /target }
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One gate: root, name, hook, stage. */}}
{{- define "meshgate.gate" -}}
{{- $root := .root -}}
{{- with $root.Values -}}
{{- $shadow := and .shadow.enabled (eq $.stage "precheck") -}}
{{- if $shadow -}}
{{- if lt (int .deadline) (add (int .settle) 180 (int .shadow.deadline)) -}}
{{- fail (printf "deadline (%v) must be at least 180 s more than settle (%v) and shadow.deadline (%v) together" .deadline .settle .shadow.deadline) -}}
{{- end -}}
{{- if not (or .shadow.manifests .shadow.configMap) -}}
{{- fail "shadow.manifests: what the target's chart renders of istiod, or shadow.configMap, which holds it" -}}
{{- end -}}
{{- end -}}
{{- $shards := ternary (int .shards) 1 (eq $.stage "dataplane") -}}
{{- if lt (int .deadline) (add (int .settle) 180) -}}
{{- fail (printf "deadline (%v) must be at least 180 s more than settle (%v): Kubernetes would end the Job before it has a verdict" .deadline .settle) -}}
{{- end -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $.name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "meshgate.labels" $root | nindent 4 }}
    meshgate/stage: {{ $.stage }}
  annotations:
    argocd.argoproj.io/hook: {{ $.hook }}
    argocd.argoproj.io/hook-delete-policy: BeforeHookCreation
    meshgate/expected-version: {{ required "targetVersion: the version that is upgraded to" .targetVersion | quote }}
spec:
  backoffLimit: 0
  {{- if gt $shards 1 }}
  completionMode: Indexed
  completions: {{ $shards }}
  parallelism: {{ $shards }}
  {{- end }}
  activeDeadlineSeconds: {{ int .deadline }}
  podFailurePolicy:
    rules:
      # A Job's condition names the container, the code and the rule, counted from 0:
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [1] } } # a claim failed
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [10] } } # could not verify
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [2] } } # interrupted
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [3] } } # a defect of meshgate
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [4] } } # wrong usage, no cluster
      - { action: FailJob, onExitCodes: { containerName: verify, operator: In, values: [5] } } # no claim was selected
      # A pod that its node lost, or that was evicted, has said nothing about the mesh: another takes its place.
      - { action: Ignore, onPodConditions: [{ type: DisruptionTarget, status: "True" }] }
  template:
    metadata:
      {{- include "meshgate.podMetadata" $root | nindent 6 }}
    spec:
      {{- include "meshgate.pod" $root | nindent 6 }}
      restartPolicy: Never
      serviceAccountName: {{ .serviceAccount }}
      {{- if $shadow }}
      initContainers: {{ include "meshgate.bringTarget" $root | nindent 8 }}
      {{- end }}
      containers:
        - name: verify
          image: {{ include "meshgate.image" $root }}
          imagePullPolicy: {{ .image.pullPolicy }}
          command: [pytest]
          args:
            - -m
            - {{ $.stage }}
            - --istio-namespace={{ .istioNamespace }}
            - --target-version={{ .targetVersion }}
            - --settle={{ int .settle }}
            - --deadline={{ sub (int .deadline) 120 }} # the rest is for the image, and for publishing
            - --job={{ .namespace }}/{{ $.name }}@$(JOB_UID)
            {{- with include "meshgate.reports" $ }}
            - --report-to={{ . }}{{ if gt $shards 1 }}-$(SHARD){{ end }}
            {{- end }}
            - --keep-reports={{ int .report.runs }}
            {{- with .report.link }}
            - --report-url={{ . }}
            {{- end }}
            {{- with .pushgateway }}
            - --metrics={{ . }}
            {{- end }}
            {{- if gt $shards 1 }}
            - --shard=$(SHARD)/{{ $shards }}
            {{- end }}
            {{- if and (eq $.stage "dataplane") .probes.enabled }}
            - --probe-pair={{ include "meshgate.image" $root }}
            {{- range .probes.calls }}
            - --probe-call={{ . }}
            {{- end }}
            {{- end }}
            {{- if and .watch.enabled (eq $.stage "ingress") (eq $.hook "PostSync") }}
            - --watch={{ include "meshgate.watch" $root }}
            {{- end }}
            {{- if $shadow }}
            - --shadow-istiod=/target/pilot-discovery
            - --shadow-envoy=/target/envoy
            - --shadow-manifests=/manifests/istiod.yaml
            - --shadow-deadline={{ int .shadow.deadline }}
            - --shadow-memory={{ int .shadow.memory }}
            {{- if .shadow.required }}
            - --require-shadow
            {{- end }}
            {{- end }}
            {{- range concat .arguments (get .stageArguments $.stage | default list) }}
            - {{ . | quote }}
            {{- end }}
          env:
            - name: JOB_UID # with it the verdict cannot land on a later Job of this name
              valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']" } }
            {{- if gt $shards 1 }}
            - name: SHARD
              valueFrom: { fieldRef: { fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']" } }
            {{- end }}
          securityContext: {{ include "meshgate.confined" . | nindent 12 }}
          resources: {{ toYaml (ternary .shadow.resources .resources $shadow) | nindent 12 }}
          volumeMounts:
            {{- if $shadow }}
            - { name: target, mountPath: /target, readOnly: true }
            - { name: manifests, mountPath: /manifests, readOnly: true }
            {{- end }}
            - { name: reports, mountPath: /meshgate/reports }
            - { name: tmp, mountPath: /tmp }
            - { name: istiod-token, mountPath: /var/run/secrets/tokens, readOnly: true }
      volumes:
        - { name: reports, emptyDir: {} }
        - { name: tmp, emptyDir: {} }
        {{- if $shadow }}
        - { name: target, emptyDir: { sizeLimit: 1Gi } }
        - { name: manifests, configMap: { name: {{ .shadow.configMap | default "istio-target" }} } }
        {{- if eq .shadow.from "volume" }}
        {{- range $name, $image := include "meshgate.targetImages" $root | fromJson }}
        - { name: {{ $name }}, image: { reference: {{ $image | quote }}, pullPolicy: {{ $root.Values.image.pullPolicy }} } }
        {{- end }}
        {{- end }}
        {{- end }}
        - name: istiod-token # istiod's debug endpoints take no other
          projected:
            sources:
              - serviceAccountToken: { path: istio-token, audience: istio-ca, expirationSeconds: 3600 }
{{- end -}}
{{- end -}}

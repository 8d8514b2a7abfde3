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
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the preset and the values together select, as JSON: stages, before, application, rbac, restart. */}}
{{- define "meshgate.selected" -}}
{{- $v := .Values -}}
{{- $presets := dict
  "" dict
  "base" (dict "rbac" "resource")
  "istiod" (dict "stages" (list "precheck" "controlplane"))
  "istio-cni" (dict "stages" (list "ambient") "application" "istio-cni")
  "ztunnel" (dict "stages" (list "ambient") "application" "ztunnel")
  "ingress" (dict "stages" (list "ingress") "before" (list "controlplane") "application" "ingress")
  "restart" (dict "stages" (list "dataplane") "before" (list "controlplane" "ingress") "application" "restart" "restart" true)
-}}
{{- $preset := get $presets ($v.preset | default "") -}}
{{- dict
  "stages" (ternary (get $preset "stages" | default list) $v.stages (kindIs "invalid" $v.stages))
  "before" (ternary (get $preset "before" | default list) $v.before (kindIs "invalid" $v.before))
  "application" ($v.application | default (get $preset "application"))
  "rbac" ($v.rbac | default (get $preset "rbac") | default "none")
  "restart" (ternary $v.restart.enabled (get $preset "restart" | default false) (kindIs "bool" $v.restart.enabled))
  | toJson -}}
{{- end -}}

{{/* The Jobs' name of a stage (root, stage): control-plane-precheck, ingress-gateway-verification. */}}
{{- define "meshgate.gateName" -}}
{{ include "meshgate.subject" . }}-{{ ternary "precheck" "verification" (eq .stage "precheck") }}
{{- end -}}

{{/* The options for which `files` has a file of the expected name, as JSON: {option: file}. */}}
{{- define "meshgate.fileOptions" -}}
{{- $known := dict "waivers.toml" "--waivers" "expectations.yaml" "--expect" "pairs.yaml" "--pairs" "support.toml" "--support-matrix" "ca.pem" "--ingress-ca" "meshgate.toml" "--settings" -}}
{{- $found := dict -}}
{{- range $file, $_ := .Values.files -}}
{{- with get $known $file -}}
{{- $_ := set $found . $file -}}
{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* The ConfigMap with `files`, which is mounted at /etc/meshgate. */}}
{{- define "meshgate.filesConfigMap" -}}
{{- $name := (include "meshgate.selected" . | fromJson).application | default (.Values.preset | default "gates") -}}
meshgate-files-{{ $name }}
{{- end -}}

{{/* The ConfigMap with the custom checks, which is mounted at /etc/meshgate-checks; empty: there are none. */}}
{{- define "meshgate.checksConfigMap" -}}
{{- with .Values.checks -}}
{{- if .configMap -}}{{ .configMap }}
{{- else if .files -}}{{ include "meshgate.filesConfigMap" $ | replace "meshgate-files" "meshgate-checks" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a gate's name begins with (root, stage): Argo CD's tree shows no more than that name. Two Applications have the
     stage `ambient`: their gates have different names. */}}
{{- define "meshgate.subject" -}}
{{- $application := (include "meshgate.selected" .root | fromJson).application -}}
{{- $ambient := ternary $application "ambient" (has $application (list "istio-cni" "ztunnel")) -}}
{{- get (dict "precheck" "control-plane" "controlplane" "control-plane" "ambient" $ambient "ingress" "ingress-gateway" "dataplane" "data-plane") .stage -}}
{{- end -}}

{{/* Where a Job's reports are kept; empty: nowhere. */}}
{{- define "meshgate.reports" -}}
{{- with .root.Values -}}
{{- if .report.url -}}{{ trimSuffix "/" .report.url }}/{{ $.name }}
{{- else if .report.keep -}}configmap://{{ .report.namespace }}/{{ $.name }}-reports
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where the watch keeps what it saw, and the gates find it. */}}
{{- define "meshgate.watch" -}}
configmap://{{ .Values.report.namespace }}/upgrade-watch
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
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
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

{{/* What a gate simulates (root, hook, stage), as JSON: {} or {version, images, configMap, options}. Stage A simulates the upgrade,
     stage B after the sync the rollback. */}}
{{- define "meshgate.simulation" -}}
{{- $v := .root.Values -}}
{{- $found := dict -}}
{{- if and $v.shadow.enabled (eq .stage "precheck") -}}
{{- $found = dict "version" $v.targetVersion "of" $v.shadow "held" "istio-target" "name" "shadow" -}}
{{- else if and $v.rollback.version (eq .stage "controlplane") (ne .hook "PreSync") -}}
{{- $found = dict "version" $v.rollback.version "of" $v.rollback "held" "istio-previous" "name" "rollback" -}}
{{- end -}}
{{- with $found -}}
{{- if lt (int $v.deadline) (add (int $v.settle) 180 (int $v.shadow.deadline)) -}}
{{- fail (printf "deadline (%v) must be at least 180 s more than settle (%v) and shadow.deadline (%v) together" $v.deadline $v.settle $v.shadow.deadline) -}}
{{- end -}}
{{- if not (or .of.manifests .of.configMap) -}}
{{- fail (printf "%s.manifests: what the chart of Istio %s renders of istiod, or %s.configMap, which holds it" .name .version .name) -}}
{{- end -}}
{{- $pilot := .of.images.pilot | default (printf "docker.io/istio/pilot:%s" .version) -}}
{{- $proxy := .of.images.proxy | default (printf "docker.io/istio/proxyv2:%s" .version) -}}
{{- $options := list (printf "--shadow-deadline=%d" (int $v.shadow.deadline)) (printf "--shadow-memory=%d" (int $v.shadow.memory)) -}}
{{- if $v.shadow.required -}}
{{- $options = append $options "--require-shadow" -}}
{{- end -}}
{{- if eq .name "rollback" -}}
{{- $options = append $options "--shadow-rollback" -}}
{{- end -}}
{{- dict "images" (dict "pilot" $pilot "proxy" $proxy) "configMap" (.of.configMap | default .held) "options" $options | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* The init containers that bring the simulated release's programs to /target, a volume of the pod (root, images). */}}
{{- define "meshgate.bringTarget" -}}
{{- $root := .root -}}
{{- $images := .images -}}
{{- with .root.Values -}}
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
    meshgate/target-version: {{ required "targetVersion: the version that is upgraded to" .targetVersion | quote }}
    {{- with .clusterName }}
    meshgate/cluster: {{ . | quote }}
    {{- end }}
{{ include "meshgate.gateSpec" $ }}
{{- end -}}
{{- end -}}

{{/* The same stage, to be started by hand: a suspended CronJob. Its Jobs have generated names, so the gates' Role
     does not permit them to write their verdict on the Job. */}}
{{- define "meshgate.verifyNow" -}}
{{- $root := .root -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ $.name }}
  namespace: {{ $root.Values.namespace }}
  labels:
    {{- include "meshgate.labels" $root | nindent 4 }}
spec:
  suspend: true
  schedule: "0 0 1 1 *" # never: it is suspended
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 1
  jobTemplate:
    metadata:
      labels:
        {{- include "meshgate.labels" $root | nindent 8 }}
    {{- include "meshgate.gateSpec" . | nindent 4 }}
{{- end -}}

{{/* The `spec` of a gate's Job: root, name, hook, stage; manual: started by hand. */}}
{{- define "meshgate.gateSpec" -}}
{{- $root := .root -}}
{{- with $root.Values -}}
{{- $shadow := include "meshgate.simulation" $ | fromJson -}}
{{- $shards := ternary (int .shards) 1 (eq $.stage "dataplane") -}}
{{- if lt (int .deadline) (add (int .settle) 180) -}}
{{- fail (printf "deadline (%v) must be at least 180 s more than settle (%v): Kubernetes would end the Job before it has a verdict" .deadline .settle) -}}
{{- end -}}
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
      initContainers: {{ include "meshgate.bringTarget" (dict "root" $root "images" $shadow.images) | nindent 8 }}
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
            {{- with .clusterName }}
            - --cluster-name={{ . }}
            {{- end }}
            {{- if not $.manual }}
            - --job={{ .namespace }}/{{ $.name }}@$(JOB_UID)
            {{- end }}
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
            {{- if and (eq $.stage "ambient") (eq (include "meshgate.selected" $root | fromJson).application "istio-cni") }}
            - --check=AM001,AM002 # ztunnel still has its old version then
            {{- end }}
            {{- if and (eq $.stage "dataplane") .probes.enabled }}
            - --probe-pair={{ include "meshgate.image" $root }}
            {{- range .probes.calls }}
            - --probe-call={{ . }}
            {{- end }}
            {{- end }}
            {{- if and .watch.enabled (eq $.hook "PostSync") (has $.stage (ternary (list "controlplane" "ingress" "dataplane") (list "ingress") (eq .watch.start "precheck"))) }}
            - --watch={{ include "meshgate.watch" $root }}
            {{- range $name, $count := .watch.budgets }}
            - --loss-budget={{ $name }}={{ int $count }}
            {{- end }}
            {{- if eq $.stage "dataplane" }}
            - --end-watch={{ .namespace }}/upgrade-watch
            {{- end }}
            {{- end }}
            {{- if $shadow }}
            - --shadow-istiod=/target/pilot-discovery
            - --shadow-envoy=/target/envoy
            - --shadow-manifests=/manifests/istiod.yaml
            {{- range $shadow.options }}
            - {{ . }}
            {{- end }}
            {{- end }}
            {{- range $option, $file := include "meshgate.fileOptions" $root | fromJson }}
            - {{ $option }}=/etc/meshgate/{{ $file }}
            {{- end }}
            {{- if include "meshgate.checksConfigMap" $root }}
            - --checks=/etc/meshgate-checks
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
            {{- with .extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          securityContext: {{ include "meshgate.confined" . | nindent 12 }}
          resources: {{ toYaml (ternary .resources .shadow.resources (empty $shadow)) | nindent 12 }}
          volumeMounts:
            {{- if $shadow }}
            - { name: target, mountPath: /target, readOnly: true }
            - { name: manifests, mountPath: /manifests, readOnly: true }
            {{- end }}
            - { name: reports, mountPath: /meshgate/reports }
            - { name: tmp, mountPath: /tmp }
            - { name: istiod-token, mountPath: /var/run/secrets/tokens, readOnly: true }
            {{- if .files }}
            - { name: files, mountPath: /etc/meshgate, readOnly: true }
            {{- end }}
            {{- if include "meshgate.checksConfigMap" $root }}
            - { name: checks, mountPath: /etc/meshgate-checks, readOnly: true }
            {{- end }}
            {{- with .extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - { name: reports, emptyDir: {} }
        - { name: tmp, emptyDir: {} }
        {{- if $shadow }}
        - { name: target, emptyDir: { sizeLimit: 1Gi } }
        - { name: manifests, configMap: { name: {{ $shadow.configMap }} } }
        {{- if eq .shadow.from "volume" }}
        {{- range $name, $image := $shadow.images }}
        - { name: {{ $name }}, image: { reference: {{ $image | quote }}, pullPolicy: {{ $root.Values.image.pullPolicy }} } }
        {{- end }}
        {{- end }}
        {{- end }}
        - name: istiod-token # istiod's debug endpoints take no other
          projected:
            sources:
              - serviceAccountToken: { path: istio-token, audience: istio-ca, expirationSeconds: 3600 }
        {{- if .files }}
        - { name: files, configMap: { name: {{ include "meshgate.filesConfigMap" $root }} } }
        {{- end }}
        {{- with include "meshgate.checksConfigMap" $root }}
        - { name: checks, configMap: { name: {{ . }} } }
        {{- end }}
        {{- with .extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
{{- end -}}

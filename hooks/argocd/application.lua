-- resource.customizations.health.argoproj.io_Application: an Application is Healthy only when the last sync of its current
-- spec succeeded, including its hooks. Argo CD's documented check copies status.health, which a failed PostSync hook
-- leaves Healthy.
local spec, status = obj.spec or {}, obj.status or {}
local operation = status.operationState
local GATES = {
  "control-plane-precheck", "control-plane-verification", "ingress-gateway-verification", "data-plane-verification",
  "istio-cni-verification", "ztunnel-verification", "ambient-verification",
  "control-plane-before-ingress", "control-plane-before-restart", "ingress-gateway-before-restart",
}

local function is(health, message)
  return { status = health, message = message }
end

local function empty(value)
  return value == nil or value == "" or value == false or (type(value) == "table" and next(value) == nil)
end

-- Argo CD omits empty fields; a manifest may contain them.
local function same(one, other)
  if empty(one) and empty(other) then return true end
  if type(one) ~= "table" or type(other) ~= "table" then return one == other end
  for key, value in pairs(one) do
    if not same(value, other[key]) then return false end
  end
  for key, value in pairs(other) do
    if one[key] == nil and not empty(value) then return false end
  end
  return true
end

-- With the source hydrator Argo CD syncs a branch that it writes itself, from the repository of the dry source.
local source = spec.source
local hydrator = spec.sourceHydrator
if not empty(hydrator) then
  local dry, sync = hydrator.drySource or {}, hydrator.syncSource or {}
  source = { repoURL = sync.repoURL or dry.repoURL, targetRevision = sync.targetBranch, path = sync.path }
end

local function of_this_spec(seen)
  if seen == nil then return false end
  -- with several sources Argo CD also writes an empty single one
  if empty(hydrator) and not empty(spec.sources) then return same(seen.sources, spec.sources) end
  return empty(seen.sources) and same(seen.source, source)
end

if obj.operation ~= nil then
  return is("Progressing", "a sync is about to start")
end
if operation ~= nil and (operation.phase == "Running" or operation.phase == "Terminating") then
  return is("Progressing", operation.message or "a sync is running")
end

local result = (operation or {}).syncResult or {}
-- The result of another spec does not count: after a rejected commit is reverted, the previous state is still deployed.
local current = (result.source == nil and result.sources == nil) or of_this_spec(result)
if operation ~= nil and current and (operation.phase == "Failed" or operation.phase == "Error") then
  local failed = ""
  for _, each in ipairs(result.resources or {}) do
    if each.hookType ~= nil and (each.hookPhase == "Failed" or each.hookPhase == "Error") then
      failed = failed .. each.name .. ": " .. (each.message or "failed") .. ". "
    end
  end
  if failed == "" then failed = operation.message or "the sync failed" end
  return is("Degraded", failed)
end

-- Argo CD could not compare. It retries a ComparisonError, so a parent keeps waiting; a wrong spec does not recover.
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "InvalidSpecError" then
    return is("Degraded", "invalid spec: " .. (condition.message or "no message"))
  elseif condition.type == "ComparisonError" then
    return is("Unknown", "comparison failed: " .. (condition.message or "no message"))
  end
end
local hydration = (status.sourceHydrator or {}).currentOperation or {}
if not empty(hydrator) then
  -- The branch that is synced keeps its name when the dry source changes: only the hydration shows which one it contains.
  if not same(hydration.sourceHydrator, hydrator) then
    return is("Progressing", "the current dry source is not hydrated yet")
  elseif hydration.phase == "Failed" then
    return is("Degraded", "hydration failed: " .. (hydration.message or "no message"))
  elseif hydration.phase ~= "Hydrated" then
    return is("Progressing", "hydration is running")
  elseif (status.reconciledAt or "") < (hydration.finishedAt or "") then
    return is("Progressing", "the hydrated branch is not compared with the cluster yet")
  end
end

local sync = status.sync or {}
if not of_this_spec(sync.comparedTo) then
  return is("Progressing", "the current spec is not compared with the cluster yet")
end

-- During the soak the old revision waits to be pruned: everything of the new one is deployed.
local pruning = ""
if sync.status == "OutOfSync" then
  local other = false
  for _, each in ipairs(status.resources or {}) do
    if each.status == "OutOfSync" then
      if each.requiresPruning then
        if pruning ~= "" then pruning = pruning .. ", " end
        local namespace = empty(each.namespace) and "" or (each.namespace .. "/")
        pruning = pruning .. each.kind .. " " .. namespace .. each.name
      else
        other = true
      end
    end
  end
  if other then pruning = "" end
end
if sync.status ~= "Synced" and pruning == "" then
  return is("Progressing", "not synced: " .. (sync.status or "Unknown"))
end

-- Argo CD syncs nothing when a new spec changes nothing in the cluster: without gates there is no sync to wait for.
local annotations = (obj.metadata or {}).annotations or {}
local gated = annotations["meshgate/gates"] ~= "none"
local history = status.history or {}
if gated and (#history == 0 or not of_this_spec(history[#history])) then
  return is("Progressing", "no complete sync of the current spec has succeeded: its gates did not run")
end
local requested = ((operation or {}).operation or {})
local partial = not empty((requested.sync or {}).resources)
if gated and current and partial and not ((requested.initiatedBy or {}).automated) then
  return is("Degraded", "no verdict: the last sync was selective, and Argo CD runs no hooks then. Sync the whole Application")
end
if current and not partial then
  local ran = {}
  for _, each in ipairs(result.resources or {}) do
    if each.hookType ~= nil and each.hookPhase == "Succeeded" then ran[each.name] = true end
  end
  for _, gate in ipairs(GATES) do
    if annotations["gate.meshgate/" .. gate] == "required" and not ran[gate] then
      return is("Degraded", "no verdict: " .. gate .. " did not run in the last sync")
    end
  end
end

local health = status.health or {}
local message = health.message
if pruning ~= "" and (health.status == "Healthy" or health.status == nil) then
  message = "waiting to be pruned: " .. pruning
end
return is(health.status or "Unknown", message)

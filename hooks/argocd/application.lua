-- resource.customizations.health.argoproj.io_Application, strict: an Application is Healthy only when the last sync of
-- what its spec says now, hooks and all, succeeded. Argo CD's documented check copies status.health, which a failed
-- PostSync hook leaves Healthy.
local spec, status = obj.spec or {}, obj.status or {}
local operation = status.operationState
local GATES = {
  "control-plane-precheck", "control-plane-verification", "ingress-gateway-verification", "data-plane-verification",
  "control-plane-before-ingress", "control-plane-before-restart", "ingress-gateway-before-restart",
}

local function is(word, message)
  return { status = word, message = message }
end

local function empty(value)
  return value == nil or value == "" or value == false or (type(value) == "table" and next(value) == nil)
end

-- Argo CD leaves out what is empty; a person may write it.
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

local function of_this_spec(seen)
  if seen == nil then return false end
  -- beside several sources Argo CD writes a single one that says nothing
  if not empty(spec.sources) then return same(seen.sources, spec.sources) end
  return empty(seen.sources) and same(seen.source, spec.source)
end

if obj.operation ~= nil then
  return is("Progressing", "a sync is about to start")
end
if operation ~= nil and (operation.phase == "Running" or operation.phase == "Terminating") then
  return is("Progressing", operation.message or "a sync is running")
end

local result = (operation or {}).syncResult or {}
-- A sync of another spec says nothing of this one: a commit that was refused and taken back leaves what was there before.
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

local sync = status.sync or {}
if not of_this_spec(sync.comparedTo) then
  return is("Progressing", "the spec was not compared with the cluster yet")
end
if sync.status ~= "Synced" then
  return is("Progressing", "not synced: " .. (sync.status or "Unknown"))
end

local history = status.history or {}
if #history == 0 or not of_this_spec(history[#history]) then
  return is("Progressing", "no whole sync of this spec has succeeded: its gates never ran")
end
local asked = ((operation or {}).operation or {})
local partial = not empty((asked.sync or {}).resources)
if current and partial and not ((asked.initiatedBy or {}).automated) then
  return is("Degraded", "no verdict: the last sync was of selected resources, for which no hook runs. Sync all of it")
end
if current and not partial then
  local ran = {}
  for _, each in ipairs(result.resources or {}) do
    if each.hookType ~= nil and each.hookPhase == "Succeeded" then ran[each.name] = true end
  end
  local annotations = obj.metadata.annotations or {}
  for _, gate in ipairs(GATES) do
    if annotations["gate.meshgate/" .. gate] == "required" and not ran[gate] then
      return is("Degraded", "no verdict: " .. gate .. " did not run in the last sync")
    end
  end
end

local health = status.health or {}
return is(health.status or "Unknown", health.message)

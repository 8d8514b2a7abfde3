-- resource.customizations.health.batch_Job: as Argo CD's own, and it says what a gate's verdict was.
local annotations = obj.metadata.annotations or {}
local verdict = annotations["meshgate/verdict"]
local is_gate = (obj.metadata.labels or {})["meshgate/stage"] ~= nil
local conditions = (obj.status or {}).conditions or {}

local function says(status, words)
  if verdict ~= nil then
    words = verdict
  elseif is_gate and status ~= "Progressing" then
    words = "no verdict was published here, see the Job's log: " .. words
  end
  return { status = status, message = words }
end

for _, condition in ipairs(conditions) do
  if condition.type == "Failed" and condition.status == "True" then
    return says("Degraded", condition.message or condition.reason or "failed")
  end
end
for _, condition in ipairs(conditions) do
  if condition.type == "Complete" and condition.status == "True" then
    return says("Healthy", condition.message or "complete")
  elseif condition.type == "Suspended" and condition.status == "True" then
    return says("Suspended", condition.message or "suspended")
  end
end
return says("Progressing", "running")

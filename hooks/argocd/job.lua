-- resource.customizations.health.batch_Job: Argo CD's own check, and the message is the gate's verdict.
local annotations = obj.metadata.annotations or {}
local verdict = annotations["meshgate/verdict"]
local is_gate = (obj.metadata.labels or {})["meshgate/stage"] ~= nil
local conditions = (obj.status or {}).conditions or {}

local function is(health, message)
  if verdict ~= nil then
    message = verdict
  elseif is_gate and health ~= "Progressing" then
    message = "the gate published no verdict, see the Job's log: " .. message
  end
  return { status = health, message = message }
end

for _, condition in ipairs(conditions) do
  if condition.type == "Failed" and condition.status == "True" then
    return is("Degraded", condition.message or condition.reason or "failed")
  end
end
for _, condition in ipairs(conditions) do
  if condition.type == "Complete" and condition.status == "True" then
    return is("Healthy", condition.message or "complete")
  elseif condition.type == "Suspended" and condition.status == "True" then
    return is("Suspended", condition.message or "suspended")
  end
end
return is("Progressing", "running")

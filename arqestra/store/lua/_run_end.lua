-- The end of a scheduled job: its spec has { 's', schedule, slot }. `_schedule.lua` explains the runs.

local function note_run_end(c, spec, id, outcome)
  for _, entry in ipairs(spec) do
    if entry[1] == 's' then
      local runs, slot = c.k.RUNS .. entry[2], entry[3]
      local run = call('HGET', runs, slot)
      local head, ran = string.match(run or '', '^(%d+|%d+|%d+|%a|)|%d*|(.*)$')
      if ran == id then
        call('HSET', runs, slot, head .. outcome .. '|' .. string.format('%.0f', c.now) .. '|' .. id)
      end
    end
  end
end

return {
  note_run_end = note_run_end,
}

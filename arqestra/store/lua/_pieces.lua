-- Lists of any length for one command: `unpack` takes 8,000 values at most, so a list goes in pieces of BATCH.

-- call(command, key, ...) with all values of the list.
local function write(command, key, list)
  for first = 1, #list, BATCH do
    call(command, key, unpack(list, first, math.min(first + BATCH - 1, #list)))
  end
end

-- MSET with a list of names and values.
local function set(list)
  for first = 1, #list, BATCH do
    call('MSET', unpack(list, first, math.min(first + BATCH - 1, #list)))
  end
end

return { write = write, set = set }

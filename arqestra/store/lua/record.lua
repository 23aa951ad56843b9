-- Add one worker's counts to the statistics of the current minute and of its hour.
--
-- KEYS  1: statistics of the minute
-- ARGV  1: its ttl in s   2: statistics of the hour   3: their ttl in s
--       then triples: field, number, '+' add it or '>' keep the greater one
-- RETURNS  1

local function add_to(key, ttl)
  for i = 4, #ARGV, 3 do
    local field, number = ARGV[i], tonumber(ARGV[i + 1])
    if ARGV[i + 2] == '+' then
      call('HINCRBY', key, field, number)
    elseif number > tonumber(call('HGET', key, field) or -1) then
      call('HSET', key, field, number)
    end
  end
  call('EXPIRE', key, ttl)
end

add_to(KEYS[1], ARGV[1])
add_to(ARGV[2], ARGV[3])
return 1

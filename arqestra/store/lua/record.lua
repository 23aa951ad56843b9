-- Add one worker's counts to the statistics of the current minute.
--
-- KEYS  1: statistics of the minute
-- ARGV  1: ttl in s   then triples: field, number, '+' add it or '>' keep the greater one
-- RETURNS  1

for i = 2, #ARGV, 3 do
  local field, number = ARGV[i], tonumber(ARGV[i + 1])
  if ARGV[i + 2] == '+' then
    call('HINCRBY', KEYS[1], field, number)
  elseif number > tonumber(call('HGET', KEYS[1], field) or -1) then
    call('HSET', KEYS[1], field, number)
  end
end
call('EXPIRE', KEYS[1], ARGV[1])
return 1

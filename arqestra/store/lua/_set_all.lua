-- Setting several keys that expire together: by one command where the server has it (Valkey 9.1, Redis 8.4). One for
-- each is a tenth of what a job costs Redis. A user whose ACL was written before that command existed does it the long
-- way.

-- list: name, value, name, value, ...; it is not to be used again.
local function set_all(list, ttl_ms)
  local n = #list
  if n > 2 then
    local has_msetex = (redis.VALKEY_VERSION_NUM or 0) >= 0x090100 or (redis.REDIS_VERSION_NUM or 0) >= 0x080400
    if has_msetex then
      list[n + 1], list[n + 2] = 'PX', ttl_ms
      local reply = redis.pcall('MSETEX', n / 2, unpack(list))
      if type(reply) ~= 'table' then
        return
      end  -- else an error: one that is not about this command comes again
    end
  end
  for i = 1, n, 2 do
    call('PSETEX', list[i], ttl_ms, list[i + 1])
  end
end

return { set_all = set_all }

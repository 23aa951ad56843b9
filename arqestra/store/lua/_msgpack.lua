-- MessagePack for servers whose Lua has none: what the scripts need of Redis' `cmsgpack`. Only `store/redis_py_link.py`
-- uses it.

local cmsgpack = cmsgpack or (function()
  local char, byte, floor = string.char, string.byte, math.floor

  local function big_endian(number, size)
    local bytes = {}
    for i = size, 1, -1 do
      bytes[i] = char(number % 256)
      number = floor(number / 256)
    end
    return table.concat(bytes)
  end

  local function packed_double(number)
    local sign = 0
    if number < 0 then
      sign, number = 128, -number
    end
    local fraction, exponent = math.frexp(number)
    local mantissa = (fraction * 2 - 1) * 2 ^ 52
    exponent = exponent + 1022
    local low = mantissa % 2 ^ 32
    local high = floor(mantissa / 2 ^ 32) + (exponent % 16) * 2 ^ 20
    return char(0xcb, sign + floor(exponent / 16)) .. string.sub(big_endian(high, 4), 2) .. big_endian(low, 4)
  end

  local function packed_number(number)
    if number % 1 ~= 0 or number >= 2 ^ 53 then
      return packed_double(number)
    elseif number >= 0 then
      return number < 128 and char(number) or number < 2 ^ 32 and char(0xce) .. big_endian(number, 4)
        or char(0xcf) .. big_endian(number, 8)
    elseif number >= -32 then
      return char(256 + number)
    elseif number >= -2 ^ 31 then
      return char(0xd2) .. big_endian(number + 2 ^ 32, 4)
    end
    return packed_double(number)
  end

  local function head(count, fixed, limit, code)
    if count < limit then
      return char(fixed + count)
    end
    return char(code) .. big_endian(count, 4)
  end

  local function pack(value)
    local kind = type(value)
    if kind == 'string' then
      return head(#value, 0xa0, 32, 0xdb) .. value
    elseif kind == 'number' then
      return packed_number(value)
    elseif kind == 'boolean' then
      return char(value and 0xc3 or 0xc2)
    elseif kind == 'nil' then
      return char(0xc0)
    end
    local parts, pairs_count = {}, 0
    for _ in pairs(value) do
      pairs_count = pairs_count + 1
    end
    if pairs_count == #value then
      for i, item in ipairs(value) do
        parts[i] = pack(item)
      end
      return head(#value, 0x90, 16, 0xdd) .. table.concat(parts)
    end
    for key, item in pairs(value) do
      parts[#parts + 1] = pack(key) .. pack(item)
    end
    return head(pairs_count, 0x80, 16, 0xdf) .. table.concat(parts)
  end

  local function unsigned(text, at, size)
    local number = 0
    for i = at, at + size - 1 do
      number = number * 256 + byte(text, i)
    end
    return number, at + size
  end

  local function double(text, at)
    local first, second = byte(text, at, at + 1)
    local exponent = first % 128 * 16 + floor(second / 16)
    local mantissa = second % 16 * 2 ^ 48 + unsigned(text, at + 2, 6)
    local number = exponent == 0 and mantissa * 2 ^ -1074 or math.ldexp(1 + mantissa / 2 ^ 52, exponent - 1023)
    return first >= 128 and -number or number, at + 8
  end

  local unpack_at

  local function items(text, at, count)
    local list = {}
    for i = 1, count do
      list[i], at = unpack_at(text, at)
    end
    return list, at
  end

  local function entries(text, at, count)
    local map, key = {}, nil
    for _ = 1, count do
      key, at = unpack_at(text, at)
      map[key], at = unpack_at(text, at)
    end
    return map, at
  end

  local SIZES = { [0] = 1, 2, 4, 8 }
  local WITH_SIZE = {
    [0xc4] = 1, [0xc5] = 2, [0xc6] = 4, [0xd9] = 1, [0xda] = 2, [0xdb] = 4,
    [0xdc] = 2, [0xdd] = 4, [0xde] = 2, [0xdf] = 4,
  }

  function unpack_at(text, at)
    local code = byte(text, at)
    at = at + 1
    if code < 0x80 then
      return code, at
    elseif code >= 0xe0 then
      return code - 256, at
    elseif code < 0x90 then
      return entries(text, at, code - 0x80)
    elseif code < 0xa0 then
      return items(text, at, code - 0x90)
    elseif code < 0xc0 then
      return string.sub(text, at, at + code - 0xa1), at + code - 0xa0
    elseif code == 0xc0 then
      return nil, at
    elseif code == 0xc2 or code == 0xc3 then
      return code == 0xc3, at
    elseif code == 0xcb then
      return double(text, at)
    elseif code >= 0xcc and code <= 0xcf then
      return unsigned(text, at, SIZES[code - 0xcc])
    elseif code >= 0xd0 and code <= 0xd3 then
      local size = SIZES[code - 0xd0]
      local number
      number, at = unsigned(text, at, size)
      return number >= 256 ^ size / 2 and number - 256 ^ size or number, at
    end
    local count
    count, at = unsigned(text, at, WITH_SIZE[code])
    if code <= 0xdb then
      return string.sub(text, at, at + count - 1), at + count
    elseif code <= 0xdd then
      return items(text, at, count)
    end
    return entries(text, at, count)
  end

  return {
    pack = pack,
    unpack = function(text)
      return (unpack_at(text, 1))
    end,
  }
end)()


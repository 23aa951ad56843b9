-- Scores of the queue. A due job's score is when it became due, less SPAN_MS for each step of its priority: so the
-- queue's order is by priority, then first in, first out, and every due job has a past score, as stock arq expects. A
-- deferred job has its due time for a score, with the priority in sixteenths of a ms behind the point; the few that
-- have one are also listed by due time (PROMOTE), and a claim moves them to the front when they become due. A job that
-- waits under a limit has THROTTLED_SCORE, a workflow that waits for news PARKED_SCORE plus its priority.

local STOCK_ABORT_SCORE = 1          -- what stock arq's abort() writes
local PROMOTE_PAGE, PROMOTE_PAGES = 500, 10

local function in_order(due, priority)
  return due - priority * SPAN_MS
end

-- When a job became due, from its score or from the score that its lease record keeps.
local function due_of(score)
  return score >= THROTTLED_SCORE and score or math.floor(score % SPAN_MS)
end

local function priority_of(score)
  if score < 0 then
    return -math.floor(score / SPAN_MS)
  end
  return score >= PARKED_SCORE and score - PARKED_SCORE or (score % 1) * 16
end

-- The score of a job that is due at a time; a deferred one with a priority is listed for its promotion.
local function score_at(c, queue, id, due, priority)
  if due <= c.now then
    return in_order(due, priority)
  end
  if priority > 0 then
    call('ZADD', c.k.PROMOTE .. queue, due, id)
    return due + priority / 16
  end
  return due
end

-- The score in the queue's order of a due job: one that is not promoted yet has its priority behind the point still.
local function promoted(score)
  if score > 0 and score % 1 > 0 then
    return in_order(math.floor(score), priority_of(score))
  end
  return score
end

-- Deferred jobs with a priority that have become due move to the front of the queue, some thousands at a time.
local function promote(c, queue)
  local k = c.k
  for _ = 1, PROMOTE_PAGES do
    local ready = call('ZRANGEBYSCORE', k.PROMOTE .. queue, '-inf', c.now, 'WITHSCORES', 'LIMIT', 0, PROMOTE_PAGE)
    local ids, moved = {}, {}
    for i = 1, #ready, 2 do
      ids[#ids + 1] = ready[i]
    end
    if #ids == 0 then
      return
    end
    for i, score in ipairs(call('ZMSCORE', k.QUEUE .. queue, unpack(ids))) do
      if score and math.floor(score) == tonumber(ready[2 * i]) then
        moved[#moved + 1] = promoted(tonumber(score))
        moved[#moved + 1] = ids[i]
      end
    end
    if #moved > 0 then
      call('ZADD', k.QUEUE .. queue, 'XX', unpack(moved))
    end
    call('ZREM', k.PROMOTE .. queue, unpack(ids))
  end
end

-- Attempts as a number. A text that is none is 0: arithmetic on it would end every claim of the queue with an error.
local function count_of(text)
  return #text <= 10 and string.find(text, '^%d+$') and tonumber(text) or 0
end

return {
  count_of = count_of,
  STOCK_ABORT_SCORE = STOCK_ABORT_SCORE,
  in_order = in_order,
  due_of = due_of,
  priority_of = priority_of,
  score_at = score_at,
  promoted = promoted,
  promote = promote,
}

-- Flows: graphs of jobs, and durable workflows. Needs _score, _wake, _limits.
--
-- A flow is a record in Redis with numbered nodes. A job that belongs to one says so in its spec: { 'n', flow, number }.
--
--   FLOW .. flow     hash: kind ('g' graph, 'w' workflow), state ('running', 'ended'), and of a graph left (nodes that have
--                    not ended), total, q (released), and a count for each state
--   NODES .. flow    hash: number -> record; number .. 'c' .. k -> k-th piece of its children, { '1' if more follow, ... };
--                    number .. 'i' -> its job id, if that is not flow~number; and what only Python reads
--   STATES .. flow   hash: number -> state. 'q' released; ended: 'c' complete, 'f' failed, 'a' aborted, 'x' expired,
--                    'u' and the number of the node at fault: a parent failed, 's' skipped, 'd' dropped by a cancellation.
--                    Of the first four: then '0' its result is not kept beyond the flow, '!' it is kept for ever
--   PENDING .. flow  hash: join -> parents that have not ended
--   LOG .. flow      list, of a workflow: its events in order
--   RESERVED .. id   of a job id that was chosen, until its node is released
--   CHORES           list of what is left to do: `what|number|piece|flow`; what: 'e' settle the children of a node that has
--                    ended, 'c' cancel, 'z' give results their TTL, 'r' reset nodes, 'p' keep results, 'i' keep ids reserved,
--                    'd' delete those of an earlier life of a workflow
--
-- A node's record: header length (4 digits), header, spec length (5 digits), spec, payload. The header is msgpack:
--   { kind: 'job' | 'join', runs: 'ok' | 'error', on failure: 'fail' | 'continue', queue, priority, first limit or '', when }
-- A join is no job: it ends, with the list of its parents' results, when its last parent has ended.
--
-- THE JOIN FIRES ONCE: a node ends in one script (its lease is fenced, so at most once), and that script settles its
-- children, which releases a child, counts a join down, or passes a failure on. What would take the script too long goes
-- to CHORES in the same script, and the next claim of any worker carries on there: nothing depends on the producer, on the
-- worker that ran the parent, or on a message. A child that has a state already is left alone.

local INLINE = 200           -- children settled in the script that ended their parent
local SEPARATOR = '~'        -- between a flow's id and a node's number in job ids: not usual in ids that people choose
local FORCED = 0.5           -- in the score of an abort: a worker obeys whether or not it allows aborts
local RESERVED_TTL_MS = 30 * 86400000
local PASS = 100             -- nodes looked at in one step of a pass over all of them

local agenda = {}            -- chores of this script: { what, number, piece, flow, the only child if it is known }
local touched = {}           -- flow -> what this script knows and changes of it: see `view_of`
local released = {}          -- what is written of released nodes: payloads, and for each queue specs and scores
local notified = {}          -- workflows whose worker was told in this script

-- What other scripts use of this; the rest is out of their sight, for Lua has room for 200 locals.
local flow_exists, view_of, state_of, set_state, decoded, node_of, release, notify, end_flow, end_node, abort_node, do_chores
local place_in_flow, is_cancelled, is_place_only

do
  function flow_exists(flow)
    return call('EXISTS', FLOW .. flow) == 1
  end

  -- What this script knows of a flow. Many nodes of one flow end in one script: states, counts and joins are gathered
  -- here, and written once, by `write_view`. False if there is no such flow.
  function view_of(flow)
    local view = touched[flow]
    if view == nil then
      local kind, state, output, cancelled, ids =
        unpack(call('HMGET', FLOW .. flow, 'kind', 'state', 'output', 'cancelled', 'ids'))
      view = kind and {
        kind = kind, state = state, output = output, cancelled = cancelled, chosen_ids = ids,
        listened_to = call('PUBSUB', 'NUMSUB', FLOW_NEWS .. flow)[2] > 0,
        states = {}, changed = {}, counts = {}, joins = {}, headers = {}, news = {},
      }
      touched[flow] = view
      if not view then
        call('ZREM', FLOWS, flow)
      end
    end
    return view
  end

  function state_of(flow, number)
    local view = view_of(flow)
    local state = view.states[number]
    if state == nil then
      state = call('HGET', STATES .. flow, number)
      view.states[number] = state
    end
    return state
  end

  function set_state(flow, number, state)
    local view = view_of(flow)
    view.states[number] = state
    local changed = view.changed
    changed[#changed + 1] = number
    changed[#changed + 1] = state
    if view.output == tostring(number) and state ~= 'q' then
      view.has_output, view.may_have_ended = true, true
    end
  end

  local function node_id(flow, number)
    local chosen = view_of(flow).chosen_ids and call('HGET', NODES .. flow, number .. 'i')
    return chosen or flow .. SEPARATOR .. number
  end

  local function count(flow, field, by)
    local counts = view_of(flow).counts
    counts[field] = (counts[field] or 0) + by
  end

  function decoded(record)
    local header_end = 4 + tonumber(string.sub(record, 1, 4))
    local header = cmsgpack.unpack(string.sub(record, 5, header_end))
    local spec_end = header_end + 5 + tonumber(string.sub(record, header_end + 1, header_end + 5))
    return {
      kind = header[1], runs = header[2], on_failure = header[3], queue = header[4], priority = header[5],
      limit = header[6], when = header[7], record = record, spec_at = header_end + 6, spec_end = spec_end,
    }
  end

  function node_of(flow, number)
    local record = call('HGET', NODES .. flow, number)
    return record and decoded(record) or nil
  end

  local function tell(flow, number, state)
    local view = view_of(flow)
    if view.listened_to then
      view.news[#view.news + 1] = number .. ' ' .. state
    end
  end

  local function append(lists, key, ...)
    local list = lists[key]
    if not list then
      list = {}
      lists[key] = list
    end
    for _, value in ipairs({ ... }) do
      list[#list + 1] = value
    end
  end

  -- Make a job of a node, due at once or when its `when` says.
  function release(flow, number, node, now, due_queues)
    if state_of(flow, number) then
      return
    end
    set_state(flow, number, 'q')
    local id, queue = node_id(flow, number), node.queue
    if view_of(flow).chosen_ids then
      call('DEL', RESERVED .. id)
    end
    append(released, 'payloads', JOB .. id, string.sub(node.record, node.spec_end + 1))
    append(released, SPECS .. queue, id, string.sub(node.record, node.spec_at, node.spec_end))
    if view_of(flow).kind == 'w' then
      call('DEL', RESULT .. id)  -- of an earlier life of the workflow
    end
    local due = now
    if node.when ~= '' then
      local ms = tonumber(string.sub(node.when, 2))
      due = string.sub(node.when, 1, 1) == '+' and now + ms or ms
    end
    if due <= now and node.limit ~= '' then
      local limits = limits_of(cmsgpack.unpack(string.sub(node.record, node.spec_at, node.spec_end)))
      park(queue, id, limits, in_order(due, node.priority), node.limit, now)
    else
      append(released, queue, score_at(queue, id, due, node.priority, now), id)
    end
    if due <= now then
      due_queues[queue] = true
    else
      released.deferred = released.deferred or {}
      released.deferred[queue] = math.min(due, released.deferred[queue] or due)
    end
    count(flow, 'q', 1)
    tell(flow, number, 'q')
  end

  -- A workflow has news: its worker is told, or it becomes due if nobody holds it.
  function notify(flow, now, due_queues)
    if notified[flow] then
      return
    end
    notified[flow] = true
    local queue = call('HGET', FLOW .. flow, 'queue')
    local worker, lease_end = string.match(call('GET', LEASE .. flow) or '', '^([^.|]+)%.[^|]*|(%d+)|')
    if worker and tonumber(lease_end) > now then
      call('PUBLISH', WORKER .. worker, 'flow ' .. flow)
      return
    end
    local score = queue and tonumber(call('ZSCORE', queue, flow) or 0) or 0
    if score > now and score ~= HELD_SCORE then
      call('ZREM', PROMOTE .. queue, flow)
      call('ZADD', queue, 'XX', in_order(now, priority_of(score)), flow)
      due_queues[queue] = true
    end
  end

  -- All nodes of a graph have ended, or a workflow has. Results, and what is left of it, are chores; the last one gives its
  -- record a TTL.
  function end_flow(flow, now, due_queues)
    local name = FLOW .. flow
    local kind, keep_ms = unpack(call('HMGET', name, 'kind', 'keep'))
    call('HSET', name, 'state', 'ended', 'ended', now)
    local view = view_of(flow)
    view.state = 'ended'
    call('ZREM', FLOWS, flow)
    call('ZADD', ENDED_FLOWS, now + keep_ms, flow)
    call('ZREMRANGEBYSCORE', ENDED_FLOWS, '-inf', now)
    if call('PTTL', ENDED_FLOWS) < tonumber(keep_ms) then
      call('PEXPIRE', ENDED_FLOWS, keep_ms)
    end
    if kind == 'w' then
      agenda[#agenda + 1] = { 'c', 1, tonumber(call('HGET', name, 'nodes') or 0), flow }
    end
    agenda[#agenda + 1] = { 'z', 1, 0, flow }
    call('PUBLISH', DONE .. flow, '')
    tell(flow, 0, 'ended')
  end

  -- A node has ended: write it down, and settle what hangs on it.
  --
  -- only_child: 0 it has none, a number the only one, nil if that is not known
  function end_node(flow, number, state, now, due_queues, only_child)
    local view = view_of(flow)
    local before = view and view.states[number]
    if not view or (before and before ~= 'q') then
      return  -- forgotten, or it has ended in this very script
    end
    set_state(flow, number, state)
    tell(flow, number, state)
    if view.kind == 'w' then
      if view.state == 'ended' then
        return  -- what a workflow left behind
      end
      call('RPUSH', LOG .. flow, 's ' .. number .. ' ' .. string.format('%.0f', now) .. ' ' .. state)
      return notify(flow, now, due_queues)
    end
    if view.chosen_ids then
      call('DEL', RESERVED .. node_id(flow, number))
    end
    if only_child ~= 0 then
      agenda[#agenda + 1] = { 'e', number, 0, flow, only_child }
    end
    count(flow, string.sub(state, 1, 1), 1)
    count(flow, 'left', -1)
  end

  -- A join has ended; it is no job and is counted nowhere.
  local function end_join(flow, number, state)
    set_state(flow, number, state)
    call('HDEL', PENDING .. flow, number)
    agenda[#agenda + 1] = { 'e', number, 0, flow }
  end

  -- A parent has ended: what that means for one child.
  local function settle(flow, parent, state, child, record, now, due_queues)
    if state_of(flow, child) then
      return
    end
    local view = view_of(flow)
    local node = view.headers[child] or (record and decoded(record)) or node_of(flow, child)
    local letter = string.sub(state, 1, 1)
    local verdict
    if view.cancelled then
      verdict = 'd'
    elseif node.runs == 'error' then
      verdict = (letter == 'c' or letter == 's') and 's' or nil
    elseif letter == 's' then
      verdict = 's'
    elseif letter ~= 'c' and node.on_failure == 'fail' then
      verdict = 'u' .. (letter == 'u' and string.sub(state, 2) or parent)
    end
    if node.kind == 'join' then
      view.headers[child] = node
      if verdict then
        end_join(flow, child, verdict)
      else
        view.joins[child] = (view.joins[child] or 0) + 1
      end
    elseif verdict then
      end_node(flow, child, verdict, now, due_queues)
    else
      release(flow, child, node, now, due_queues)
    end
  end

  local function settle_piece(number, piece, flow, only_child, now, due_queues)
    local state = view_of(flow) and state_of(flow, number)
    if not state then
      return 1
    end
    if only_child then
      settle(flow, number, state, only_child, nil, now, due_queues)
      return 1
    end
    local packed = call('HGET', NODES .. flow, number .. 'c' .. piece)
    if not packed then
      return 1
    end
    local children = cmsgpack.unpack(packed)
    if children[1] == 1 then
      agenda[#agenda + 1] = { 'e', number, piece + 1, flow }
    end
    if #children > 1 then
      local records = call('HMGET', NODES .. flow, unpack(children, 2))
      local known = view_of(flow).states
      for i, child_state in ipairs(call('HMGET', STATES .. flow, unpack(children, 2))) do
        if known[children[i + 1]] == nil then
          known[children[i + 1]] = child_state
        end
      end
      for i = 2, #children do
        settle(flow, number, state, children[i], records[i - 1], now, due_queues)
      end
    end
    return #children
  end

  -- Take a job from its queue that no worker holds. Its node ends with a state of the caller's.
  local function withdraw(queue, id, now, due_queues)
    local spec = spec_of(queue, id)
    fetch_from_lane(queue, id)
    if spec then
      give_back(queue, id, spec, now, true, due_queues)
    end
    call('DEL', JOB .. id, ATTEMPTS .. id, LEASE .. id)
    call('ZREM', queue, id)
    call('ZREM', PROMOTE .. queue, id)
    call('ZREM', ABORTS, id)
    call('PUBLISH', DONE .. id, '')
  end

  local function in_pieces(command, key, list)
    for first = 1, #list, 1000 do
      if key then
        call(command, key, unpack(list, first, math.min(first + 999, #list)))
      else
        call(command, unpack(list, first, math.min(first + 999, #list)))
      end
    end
  end

  -- Write the jobs of released nodes.
  local function write_released(now)
    local payloads, deferred = released.payloads, released.deferred or {}
    if not payloads then
      return
    end
    released.payloads, released.deferred = nil, nil
    in_pieces('MSET', nil, payloads)
    for key, list in pairs(released) do
      local is_specs = string.sub(key, 1, #SPECS) == SPECS
      in_pieces(is_specs and 'HSET' or 'ZADD', key, list)
    end
    released = {}
    for queue, due in pairs(deferred) do
      announce_deferred(queue, due, now)
    end
  end

  -- Abort the job of a released node: whoever runs it is told, else it is taken from its queue.
  function abort_node(flow, number, node, now, due_queues)
    write_released(now)  -- it may be one of this very script
    local id = node_id(flow, number)
    local worker, lease_end = string.match(call('GET', LEASE .. id) or '', '^([^.|]+)%.[^|]*|(%d+)|')
    if worker and tonumber(lease_end) > now then
      call('ZADD', ABORTS, now + FORCED, id)
      call('PUBLISH', WORKER .. worker, 'abort! ' .. id)
    elseif flow_exists(id) and call('HGET', FLOW .. id, 'kind') == 'w' then
      call('ZADD', ABORTS, now + FORCED, id)  -- a workflow that waits: it is to abort its own steps
      call('ZADD', node.queue, 'XX', now, id)
      due_queues[node.queue] = true
    elseif call('ZSCORE', node.queue, id) then
      withdraw(node.queue, id, now, due_queues)
      end_node(flow, number, 'a', now, due_queues)
    end
  end

  local function read_states(flow, first, last)
    local numbers, known = {}, view_of(flow).states
    for number = first, last do
      numbers[#numbers + 1] = number
    end
    for i, state in ipairs(#numbers > 0 and call('HMGET', STATES .. flow, unpack(numbers)) or {}) do
      if known[numbers[i]] == nil then
        known[numbers[i]] = state
      end
    end
  end

  -- Nodes that wait are dropped, those in a queue are taken from it, those that run are told to abort.
  local function cancel_pass(first, until_number, flow, now, due_queues)
    local view = view_of(flow)
    if not view or (view.kind == 'g' and not view.cancelled) then
      return 1  -- another round has begun
    end
    local total = until_number > 0 and until_number or call('HGET', FLOW .. flow, 'nodes')
    local last = math.min(tonumber(total or 0), first + PASS - 1)
    read_states(flow, first, last)
    for number = first, last do
      local state = state_of(flow, number)
      local node = (not state or state == 'q') and node_of(flow, number) or nil
      if node and node.kind == 'join' then
        set_state(flow, number, 'd')
      elseif node and node.kind == 'job' and not state then
        end_node(flow, number, 'd', now, due_queues)
      elseif node and node.kind == 'job' then
        abort_node(flow, number, node, now, due_queues)
      end
    end
    if last < tonumber(total or 0) then
      agenda[#agenda + 1] = { 'c', last + 1, until_number, flow }
    end
    return last - first + 1
  end

  -- The flow has ended: its nodes' results are kept as long as its record.
  local function results_pass(first, flow)
    local view = view_of(flow)
    if not view or view.state ~= 'ended' then
      return 1
    end
    local total, keep_ms = unpack(call('HMGET', FLOW .. flow, 'nodes', 'keep'))
    total = total or '0'
    local last = math.min(tonumber(total), first + PASS - 1)
    read_states(flow, first, last)
    for number = first, last do
      local letter, ttl = string.match(state_of(flow, number) or '', '^(%a)(%p?%d*)')
      if letter == 'c' or letter == 'f' or letter == 'a' or letter == 'x' then
        local id = node_id(flow, number)
        if ttl == '0' then
          call('DEL', RESULT .. id, ERRORS .. id)
        elseif ttl ~= '!' then
          call('PEXPIRE', RESULT .. id, keep_ms)
          call('PEXPIRE', ERRORS .. id, keep_ms)
        end
      end
    end
    if last < tonumber(total) then
      agenda[#agenda + 1] = { 'z', last + 1, 0, flow }
    else
      for _, prefix in ipairs({ FLOW, NODES, STATES, PENDING, LOG }) do
        call('PEXPIRE', prefix .. flow, keep_ms)
      end
    end
    return last - first + 1
  end

  -- Another round has begun: the results that it keeps have no TTL meanwhile.
  local function keep_pass(first, flow)
    local total, state = unpack(call('HMGET', FLOW .. flow, 'nodes', 'state'))
    if not total or state ~= 'running' then
      return 1
    end
    local last = math.min(tonumber(total), first + PASS - 1)
    for number = first, last do
      call('PERSIST', RESULT .. node_id(flow, number))
    end
    if last < tonumber(total) then
      agenda[#agenda + 1] = { 'p', last + 1, 0, flow }
    end
    return last - first + 1
  end

  -- The flow has started: ids that were chosen stay reserved for as long as it may take.
  local function reserve_pass(first, flow)
    local last = math.min(tonumber(call('HGET', FLOW .. flow, 'nodes') or 0), first + PASS - 1)
    for number = first, last do
      local id = call('HGET', NODES .. flow, number .. 'i')
      if id then
        call('PEXPIRE', RESERVED .. id, RESERVED_TTL_MS)
      end
    end
    if last == first + PASS - 1 then
      agenda[#agenda + 1] = { 'i', last + 1, 0, flow }
    end
    return PASS
  end

  -- Results of steps of an earlier life of a workflow, up to a number.
  local function delete_pass(first, last, flow)
    local names = {}
    for number = first, math.min(last, first + PASS - 1) do
      names[#names + 1] = RESULT .. flow .. SEPARATOR .. number
      names[#names + 1] = ERRORS .. flow .. SEPARATOR .. number
    end
    if #names > 0 then
      call('DEL', unpack(names))
    end
    if last >= first + PASS then
      agenda[#agenda + 1] = { 'd', first + PASS, last, flow }
    end
    return PASS
  end

  -- Nodes of an ended graph are to run again: piece k of number 'r' holds { '1' if more follow, number, parents, ... }.
  local function reset_pass(round, piece, flow)
    if not view_of(flow) then
      return 1
    end
    local packed = call('HGET', NODES .. flow, round .. 'r' .. piece)
    if not packed then
      return 1
    end
    local entries = cmsgpack.unpack(packed)
    for i = 2, #entries, 2 do
      local number, parents = entries[i], entries[i + 1]
      local state = state_of(flow, number)
      if state then
        call('HDEL', STATES .. flow, number)
        view_of(flow).states[number] = false
        local letter = string.sub(state, 1, 1)
        local node = node_of(flow, number)
        if node.kind == 'join' then
          call('HSET', PENDING .. flow, number, parents)
        else
          count(flow, letter, -1)
          if letter == 'f' or letter == 'a' or letter == 'x' or letter == 'c' then
            local id = node_id(flow, number)
            count(flow, 'q', -1)
            call('DEL', RESULT .. id, ERRORS .. id)
            call('ZREM', DEAD .. node.queue, id)
            call('HDEL', DEAD_RESULTS .. node.queue, id)
          end
        end
      end
    end
    call('HDEL', NODES .. flow, round .. 'r' .. piece)
    if entries[1] == 1 then
      agenda[#agenda + 1] = { 'r', round, piece + 1, flow }
    else
      agenda[#agenda + 1] = { 'e', round, 0, flow }
    end
    return #entries
  end

  -- Write what this script found out of a flow; joins that are complete, and the flow's end, make new chores.
  local function write_view(flow, view, now, due_queues)
    local changed = view.changed
    view.changed = {}
    for first = 1, #changed, 1000 do
      call('HSET', STATES .. flow, unpack(changed, first, math.min(first + 999, #changed)))
    end
    local joins, counts = view.joins, view.counts
    view.joins, view.counts = {}, {}
    for child, parents in pairs(joins) do
      if not state_of(flow, child) and call('HINCRBY', PENDING .. flow, child, -parents) <= 0 then
        end_join(flow, child, 'c')
      end
    end
    for field, by in pairs(counts) do
      local number = call('HINCRBY', FLOW .. flow, field, by)
      if field == 'left' and number == 0 then
        view.may_have_ended = true
      end
    end
    local may_have_ended = view.may_have_ended
    view.may_have_ended = nil
    if may_have_ended and view.kind == 'g' then
      local left = call('HGET', FLOW .. flow, 'left')
      if left == '0' and view.state == 'running' and state_of(flow, tonumber(view.output)) then
        end_flow(flow, now, due_queues)
      end
    end
    if view.has_output then
      view.has_output = nil
      call('PUBLISH', DONE .. flow, '')
    end
  end

  local function write_views(now, due_queues)
    repeat  -- a join that is complete is a change itself
      local again = false
      for flow, view in pairs(touched) do
        if view and (#view.changed > 0 or next(view.joins) or next(view.counts) or view.may_have_ended) then
          write_view(flow, view, now, due_queues)
          again = true
        end
      end
    until not again
  end

  local function publish_news()
    for flow, view in pairs(touched) do
      local news = view and view.news or {}
      if #news > 0 then
        for first = 1, #news, 1000 do
          call('PUBLISH', FLOW_NEWS .. flow, table.concat(news, '\n', first, math.min(first + 999, #news)))
        end
      end
    end
  end

  -- The next thing to do: of this script's agenda, else of older chores; nil if there is nothing.
  local function next_chore(at, older, now, due_queues)
    if not agenda[at] then
      write_views(now, due_queues)  -- may put joins that are complete on the agenda
    end
    if not agenda[at] and older then
      local waiting = call('LPOP', CHORES)
      if waiting then
        local what, number, piece, flow = string.match(waiting, '^(%a)|(%d+)|(%d+)|(.*)$')
        agenda[at] = { what, tonumber(number), tonumber(piece), flow }
      end
    end
    return agenda[at]
  end

  -- Work on the agenda of this script, then on older chores; what is left waits for the next claim. Every script that
  -- touches a flow ends with this. True if something is left.
  function do_chores(budget, older, now, due_queues)
    local at = 1
    while budget > 0 do
      local chore = next_chore(at, older, now, due_queues)
      if not chore then
        break
      end
      at = at + 1
      local what, number, piece, flow = chore[1], chore[2], chore[3], chore[4]
      if what == 'e' then
        budget = budget - settle_piece(number, piece, flow, chore[5], now, due_queues)
      elseif what == 'c' then
        budget = budget - cancel_pass(number, piece, flow, now, due_queues)
      elseif what == 'z' then
        budget = budget - results_pass(number, flow)
      elseif what == 'p' then
        budget = budget - keep_pass(number, flow)
      elseif what == 'i' then
        budget = budget - reserve_pass(number, flow)
      elseif what == 'd' then
        budget = budget - delete_pass(number, piece, flow)
      else
        budget = budget - reset_pass(number, piece, flow)
      end
    end
    write_views(now, due_queues)
    local rest = {}
    for i = at, #agenda do
      rest[#rest + 1] = agenda[i][1] .. '|' .. agenda[i][2] .. '|' .. agenda[i][3] .. '|' .. agenda[i][4]
    end
    agenda = {}
    write_released(now)
    for first = 1, #rest, 1000 do
      call('RPUSH', CHORES, unpack(rest, first, math.min(first + 999, #rest)))
    end
    publish_news()
    touched = {}
    return #rest > 0
  end

  -- Whether a job is a node of a flow that was cancelled.
  function is_cancelled(packed)
    local entries = cmsgpack.unpack(packed)
    local entry = entries[#entries]
    local view = entry[1] == 'n' and view_of(entry[2])
    return view and view.kind == 'g' and view.cancelled
  end

  -- Whether a packed spec has nothing but the job's place in a flow: { { 'n', ... } }.
  function is_place_only(packed)
    return string.sub(packed, 1, 1) == '\145' and string.sub(packed, 4, 4) == 'n'
  end

  -- Which node of which flow a job is, by its spec: flow, number, its only child (0: it has none) if it has no more than
  -- one, and whether its result is part of the flow's.
  function place_in_flow(spec)
    for _, entry in ipairs(spec) do
      if entry[1] == 'n' then
        return entry[2], entry[3], entry[4] ~= -1 and entry[4] or nil, entry[5] == 1
      end
    end
  end
end

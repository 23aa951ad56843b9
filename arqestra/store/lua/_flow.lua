-- Flows: graphs of jobs, and durable workflows (docs/protocols.md, "Flows and joins").
--
-- A flow is a record in Redis with numbered nodes. A job that belongs to one says so in its spec:
-- { 'n', flow, number }.
--
--   FLOW .. flow     hash: kind ('g' graph, 'w' workflow), state ('running', 'ended'), and of a graph left (jobs that
--                    have not ended), total, q (released), and a count for each state
--   NODES .. flow    hash: number -> record; number .. 'c' .. n -> n-th piece of its children (n from 0),
--                    { 1 if more follow, ... }; number .. 'i' -> its job id, if that is not flow~number; and what only
--                    Python reads
--   STATES .. flow   hash: number -> state
--   PENDING .. flow  hash: join -> parents that have not ended
--   LOG .. flow      list, of a workflow: its events in order
--   RESERVED .. id   of a job id that was chosen, until its node is released: nonce of the producer, number, flow
--   CONTINUATIONS    list of what is left to do: `what|number|piece|flow`
--
-- A node's record: header length (4 digits), header, spec length (5 digits), spec, payload. The header is msgpack:
--   { kind: 'job' | 'join', runs: 'ok' | 'error', on failure: 'fail' | 'continue', queue, priority, first limit or '',
--     when }
-- A join is no job: it ends, with the list of its parents' results, when its last parent has ended.
--
--   state of a node  what it means
--   'q'              released: it is queued or runs
--   'c'              complete
--   'f'              failed
--   'a'              aborted
--   'x'              expired; behind these four, '0': its result is not kept beyond the flow, '!': it is kept for ever
--   'u' .. number    a parent failed: the number is that of the node at fault
--   's'              skipped: it was to run only if something failed
--   'd'              dropped, because the flow was cancelled
--
--   what  number          piece           what is left to do
--   'e'   the node        from 0          a node has ended: pass that on to its children
--   'c'   first node      last node or 0  cancel nodes; 0: as many as there are
--   'z'   first node      0               the flow has ended: give results their TTL
--   'p'   first node      0               another round has begun: results lose their TTL
--   'i'   first node      0               the flow has started: keep ids that were chosen reserved
--   'd'   first node      last node       a workflow continued as new: delete results of earlier steps
--   'r'   source of the   from 0          reset the nodes that run once more, then go on with 'e' of the source
--         new round
--
-- THE JOIN FIRES ONCE: a node ends in one call (its lease is fenced, so at most once), and that call passes it on to
-- the children: it releases a child, counts a join down, or passes a failure on. What would take the call too long goes
-- to CONTINUATIONS in the same call, and the next claim of any worker carries on there: nothing depends on the
-- producer, on the worker that ran the parent, or on a message. A child that has a state already is left alone.
--
-- The parts: FlowView (what the call knows of flows), FlowNodes (releasing a node, the end of a node and of a flow),
-- FlowPasses (work on all nodes of a flow, a piece at a time), FlowContinuations (writing what a call found out, and
-- doing what is left to do). Other files use them by this module.
-- USES  FlowView, FlowNodes, FlowPasses, FlowContinuations

return {
  INLINE = FlowNodes.INLINE,
  exists = FlowView.exists,
  view_of = FlowView.view_of,
  forget_view = FlowView.forget_view,
  set_state = FlowView.set_state,
  state_of = FlowView.state_of,
  decoded = FlowView.decoded,
  node_of = FlowView.node_of,
  mark_its_queues = FlowView.mark_its_queues,
  add_continuation = FlowView.add_continuation,
  release = FlowNodes.release,
  notify = FlowNodes.notify,
  unblock = FlowNodes.unblock,
  end_flow = FlowNodes.end_flow,
  end_node = FlowNodes.end_node,
  abort_node = FlowPasses.abort_node,
  abort_unreleased = FlowPasses.abort_unreleased,
  run_continuations = FlowContinuations.run_continuations,
  is_cancelled = FlowContinuations.is_cancelled,
}

// Package engine compiles playbooks into plans and carries plans out.
//
// # The way of the data
//
//	bytes -> schema.Playbook -> (overlays) -> schema.Playbook -> Compiler -> Plan -> Runner -> Event ... -> audit log, terminal, report
//	         schema.Inventory ------------------------------------^
//
// Each arrow is one function, each value complete once made. [Compiler] checks
// every step for every host: names, types, expressions, arguments. All mistakes
// are returned together and nothing has been dialled by then. [Runner] dials,
// and only a run can fail in the ways of machines.
//
// # The one loop
//
// An [Action] is handed a [Probe], which can only read, and says what is not
// as it should be. If it is an [Applier], the intent is recorded durably, then
// Apply makes the changes, then Check runs again: the step succeeds only when
// it finds nothing more to change. From that loop follow
//
//   - the plan: Check without Apply;
//   - idempotence: a second run finds nothing to change;
//   - verification: what Apply claims is not believed;
//   - retries that redo only what is left: each attempt begins with Check;
//   - repair after a crash: state decides, not history. Whether a component
//     must restart is asked of its age, so that no restart is forgotten.
//
// # Rolling back
//
// When a step fails in a play with on_failure: rollback, the steps that were
// applied on the hosts of its batch are reverted in reverse order ([Reverter]);
// closing [Runner.Stop] does not keep it from that. Then what follows from
// files ([Follower]: restarts) is checked and applied again in forward order,
// because a process that has read a reverted file is stale. A step that is
// neither, and not a [Waiter] or [Preparer], leaves the host dirty: a person is needed.
// Earlier batches are complete and stay as they are.
//
// Closing [Runner.Stop] lets the present steps finish, or fail and be rolled
// back, and begins no other. Cancelling the context stops at once: nothing is
// rolled back, and the report and the log say what is where.
//
// # Locks
//
// A run that may change something takes the lock of every host before its first
// step ([Locker]) and keeps it to its end. It ends with the process or the
// connection, so that a lock that is held has a living run behind it; what is
// left of one tells whose it was. Before each change the run asks whether the
// host is still its own: one whose lock was lost is not touched again. What an
// action takes beyond a host, as the lock of a cluster, is kept by the engine
// ([Keeper]); it is no change, so that a plan has none and a resumed run takes it
// again.
//
// # Plans
//
// In a plan, reading steps run and writing ones are withheld. What a later step
// would see is known in part: files that a step would write are marked as
// pending for the Probe of the later ones, so that a restart is foreseen before
// the file is there. What cannot be known is said: a condition on a withheld
// result is reported as pending with the step that it depends on, and an
// assertion on pending files is not judged.
//
// # Secrets
//
// A variable is secret when it was written in a secret document
// ([schema.Source]), and so is what an expression makes of it, but not whether a
// condition is true. Only an argument whose field has the tag secret:"true" may
// hold one, as its value goes to a command's standard input; anywhere else is a
// mistake that Compile reports. What a run learns later is held against the
// values: a secret that a command has printed reaches no argument either. All
// that leaves a run, events and the Report, is freed of these values in the forms
// in which they may be written, and of what looks like a key, a token or a
// password ([Scrub]).
//
// # Imports
//
// The engine knows no action and no transport; it has no clock, files, network
// or processes of its own. Arrows point at it: engine/host implements [Host],
// engine/audit and engine/report consume [Event], the actions implement
// [Action]. Only the command line sees all of them. A test enforces this.
package engine

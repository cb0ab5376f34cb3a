// Package supervise runs a command that must not outlive an ownership.
//
// # Guarantees
//
// Three processes of one binary take part. The wrapper holds the ownership. The
// guard, a sibling in a session of its own, is started first and holds the read
// end of a pipe from the wrapper. The command is started as a stub in a process
// group of its own; the stub becomes the command only after the guard has
// confirmed that it knows the group, so that no instruction of the command runs
// unguarded.
//
//   - When the wrapper dies, however it dies, the guard kills the group at once.
//     When nothing of the group is left, it carries out the wrapper's will: to end
//     the session, so that others need not wait for its TTL.
//   - When renewals stop, the wrapper sends TERM to the group at the end of
//     validity minus the grace, and KILL at the end of validity.
//   - When the wrapper is stopped or starved, the guard kills the group at the end
//     of validity by itself. It knows that moment on a clock that counts suspend,
//     from the last renewal that the wrapper told it of.
//   - When the guard dies, the wrapper starts another for the same group. On Linux
//     the kernel also kills the command when the wrapper dies, so losing both at
//     once does not leave the command behind.
//   - When the command ends, what is left of its group is ended too, before Run
//     returns.
//
// # Failure
//
// Processes that leave the group are out of reach. If wrapper and guard are both
// stopped (a frozen container), nobody is left to kill in time: there only a token
// that is checked by the resource protects. On macOS the kernel does not kill the
// command when the wrapper dies: killing wrapper and guard at once leaves it.
// On other systems Run returns ErrUnsupported.
package supervise

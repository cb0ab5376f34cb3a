package supervise

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrUnsupported is returned by Run on systems without process groups.
var ErrUnsupported = errors.New("running a command under ownership needs process groups, which this system does not have")

// A StartError says that the command could not be started. Nothing of it ran.
type StartError struct {
	Path string // the program
	Err  error  // what the system said
}

func (e *StartError) Error() string { return "cannot run " + e.Path + ": " + e.Err.Error() }

// Unwrap returns what the system said.
func (e *StartError) Unwrap() error { return e.Err }

// Config says what to run and under which ownership. All fields are required
// unless noted.
type Config struct {
	Path string   // program, already looked up
	Args []string // with the program's name first
	Env  []string // the command's whole environment

	Stdin, Stdout, Stderr *os.File

	// Lost ends when ownership ended: the group is killed at once.
	Lost context.Context
	// LostGrace says for how long after the end of Lost, with this cause, nobody else
	// can be the owner: the group then gets TERM at once and KILL after that time.
	// Optional; zero or less is at once.
	LostGrace func(cause error) time.Duration
	// Remaining says how long ownership is still valid without a further renewal.
	// It is called often and must not block.
	Remaining func() time.Duration
	// Grace is the time between TERM and the end of validity when renewals stop.
	Grace time.Duration
	// Leftover is the time between TERM and KILL for processes that stay in the
	// group after the command ended.
	Leftover time.Duration
	// Interval is how often Remaining is read and told to the guard.
	Interval time.Duration
	// Signals are forwarded to the group while it runs. Optional.
	Signals <-chan os.Signal
	// Notify receives one line for the user when the command is asked to end, or
	// stopped, by something other than itself or a forwarded signal. Optional.
	Notify func(line string)
	// Guard is a guard that was started already; Run ends it, whatever it returns.
	// Optional: without one Run starts its own, with no will.
	Guard *GuardProcess
	// GuardArgs and StubArgs are the arguments after which this binary plays the
	// guard (Guard) and the stub (Stub); Run appends what Stub needs.
	GuardArgs, StubArgs []string
}

// Result says how the command ended.
type Result struct {
	Code int   // exit code; 128+n when signal n ended it
	Lost bool  // it was ended because ownership was lost or renewals had stopped
	Why  error // the cause of the loss, nil if renewals had stopped and ownership was not yet over
	// Asked says that whoever runs this process asked for the end: INT, QUIT or TERM
	// was forwarded, the command died of a HUP that was, or of what a person typed
	// (or of a hang-up) on the terminal that it had.
	Asked bool
}

func (c *Config) notify(line string) {
	if c.Notify != nil {
		c.Notify(line)
	}
}

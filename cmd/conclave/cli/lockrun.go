package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/lock"
)

// How long letting go may take when nobody answers: of a place in line, which
// nobody waits behind for longer than the TTL, and of a name.
const (
	leaving   = 2 * time.Second
	releasing = 10 * time.Second
)

// maxForcedGrace is the longest time that a forced release leaves a command.
const maxForcedGrace = 10 * time.Second

var (
	errWaited = errors.New("held by others")
	errLeft   = errors.New("nobody answers")
)

// A signalError says which signal ended the wait.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string { return "signal: " + e.sig.String() }

// lockRun runs argv under the lock.
func (a *app) lockRun(ctx context.Context, name string, argv []string, r lockRequest) error {
	if r.err != nil {
		return r.err
	}
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	if err := keyspace.CheckNamespace("namespace", a.namespace(t)); err != nil {
		return usage("invalid_namespace", "", "%s", err)
	}
	cfg, err := a.commandConfig(argv)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)

	acquiring, done := a.acquiring(ctx, signals)
	s, o, err := a.acquire(acquiring, t, name, r, cfg)
	done()
	if err != nil {
		if s != nil {
			// Why the name was not acquired is what matters.
			_ = letGo(s, nil, leaving, signals)
		}
		if cfg.Guard != nil {
			cfg.Guard.End()
		}
		return err
	}
	if told, ok := errors.AsType[signalError](context.Cause(acquiring)); ok {
		// The signal came between the acquisition and the command.
		defer cfg.Guard.End()
		return errors.Join(exitError(128+int(told.sig)), letGo(s, o, releasing, signals))
	}
	cfg.Signals = signals
	return a.runUnder(cfg, s, o, name, r)
}

// acquiring bounds everything up to the acquisition: by --timeout and by the
// signals that end a program, one of which is then the context's cause. After done
// signals stay in the channel, for the command.
func (a *app) acquiring(ctx context.Context, signals chan os.Signal) (acquiring context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopTimeout := context.CancelFunc(func() {})
	if a.flags.timeout.set {
		ctx, stopTimeout = context.WithTimeoutCause(ctx, a.flags.timeout.value, errTimedOut)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case sig := <-signals:
				if s, ok := sig.(syscall.Signal); ok && !isUserSignal(s) {
					cancel(signalError{s})
				}
			}
		}
	}()
	return ctx, func() {
		close(stop)
		<-stopped
		stopTimeout()
		cancel(nil)
	}
}

// acquire opens a session, starts the guard that ends it if this process is killed,
// and waits for the name. The session is returned, to be closed, also if the name
// was not acquired.
func (a *app) acquire(ctx context.Context, t target, name string, r lockRequest, cfg *supervise.Config) (session, *owned, error) {
	s, err := a.openSession(ctx, t, r.ttl.value)
	if err != nil {
		return nil, nil, whyNot(ctx, err, name)
	}
	will, err := a.will(t, s)
	if err == nil {
		cfg.Guard, err = supervise.StartGuard(cfg.GuardArgs, will)
	}
	if err != nil {
		return s, nil, err
	}
	o, err := s.lock(ctx, name, r.lockFlags)
	if err != nil {
		return s, nil, whyNot(ctx, err, name)
	}
	return s, o, nil
}

// waiting bounds the waiting by --wait, and a little more.
func (f lockFlags) waiting(ctx context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	if f.wait.set && !f.tries() {
		return context.WithTimeoutCause(ctx, f.wait.value+more, errWaited)
	}
	return context.WithCancel(ctx)
}

// notAcquired says that --wait has elapsed, if that is why.
func (f lockFlags) notAcquired(waiting context.Context, name string, err error) error {
	elapsed := errors.Is(context.Cause(waiting), errWaited) || (f.wait.set && !f.tries() && recipe.Reason(err) == "locked")
	if err == nil || !elapsed {
		return err
	}
	by := waitedError(errWaited.Error())
	if _, holder, ok := strings.Cut(describe(err).Message, "locked: "); ok {
		by = waitedError(holder) // a host says who
	}
	return fmt.Errorf("lock %q: still not free after --wait %s: %w", name, short(f.wait.value), by)
}

// A waitedError is errWaited, and says who holds the name.
type waitedError string

func (e waitedError) Error() string { return string(e) }

// Is makes it errWaited.
func (e waitedError) Is(target error) bool { return target == errWaited }

// forcedGrace is what a forced release by an operator leaves the command.
func (f lockFlags) forcedGrace() time.Duration { return min(f.grace.value, maxForcedGrace) }

// whyNot says why the name was not acquired.
func whyNot(ctx context.Context, err error, name string) error {
	sig, signaled := errors.AsType[signalError](context.Cause(ctx))
	switch {
	case signaled:
		return exitError(128 + int(sig.sig))
	case errors.Is(context.Cause(ctx), errTimedOut):
		return &Error{Exit: ExitTimeout, Code: "deadline_exceeded", Reason: "timeout", cause: err,
			Message: fmt.Sprintf("lock %q: not acquired before --timeout", name)}
	case errors.Is(err, errWaited), errors.Is(err, lock.ErrLocked), recipe.Reason(err) == "locked":
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "locked", cause: err,
			Message: lockedMessage(err), Hint: "wait longer with --wait, or without it as long as it takes"}
	case recipe.Reason(err) == "conflict":
		e := describe(err)
		if strings.Contains(e.Message, "limit mismatch") {
			e.Hint = slotsHint
		}
		return e
	case ctx.Err() != nil:
		return &Error{Exit: ExitFailed, Code: "canceled", Reason: "canceled", Message: oneLine(err), cause: err}
	}
	return err
}

func lockedMessage(err error) string {
	if errors.Is(err, errWaited) {
		return oneLine(err)
	}
	return describe(err).Message
}

// runUnder runs the command and lets the name go.
func (a *app) runUnder(cfg *supervise.Config, s session, o *owned, name string, r lockRequest) error {
	cfg.Env = append(withoutOwn(a.environ),
		"CONCLAVE_NAME="+name,
		"CONCLAVE_TOKEN="+strconv.FormatInt(int64(o.token), 10),
		"CONCLAVE_SESSION="+s.ID(),
		"CONCLAVE_OWNER="+s.Owner())
	cfg.Lost = o.context
	cfg.Remaining = func() time.Duration {
		if o.context.Err() != nil {
			return 0
		}
		return s.Remaining()
	}
	// A third of the TTL is the least that is left while renewals are acknowledged:
	// with a longer grace a healthy command would be asked to end.
	cfg.Grace = min(r.grace.value, r.ttl.value/3)
	cfg.Leftover = cfg.Grace
	cfg.LostGrace = func(cause error) time.Duration {
		if !errors.Is(cause, core.ErrRevoked) {
			return 0
		}
		// The time counts from the operator's act, which was a little earlier.
		return min(r.forcedGrace()*3/4, s.Remaining())
	}
	cfg.Interval = min(r.ttl.value/30, 500*time.Millisecond)
	res, err := supervise.Run(*cfg)
	released := letGo(s, o, releasing, cfg.Signals)
	return a.result(res, err, released, name)
}

// letGo releases the name, if there is one, and closes the session. It gives up, and leaves the rest
// to the lease's end, when etcd does not answer for a while or the user does not
// want to wait: the release itself would go on for a TTL, which may be an hour.
func letGo(s session, o *owned, atMost time.Duration, signals <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() {
		var err error
		if o != nil {
			err = o.release()
		}
		s.close()
		done <- err
	}()
	giveUp := time.NewTimer(atMost)
	defer giveUp.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-giveUp.C:
			return errLeft
		case sig := <-signals:
			if s, ok := sig.(syscall.Signal); ok && !isUserSignal(s) {
				return errLeft
			}
		}
	}
}

func (a *app) result(res supervise.Result, err, released error, name string) error {
	start, notStarted := errors.AsType[*supervise.StartError](err)
	switch {
	case notStarted:
		return notRunnable(start.Path, start.Err)
	case err != nil:
		return fmt.Errorf("lock %q: %w", name, err)
	case res.Lost:
		message := fmt.Sprintf("lock %q: no renewal was acknowledged in time", name)
		if res.Why != nil {
			message = oneLine(res.Why)
		}
		return &Error{Exit: ExitLost, Code: "failed_precondition", Reason: "not_owner", cause: res.Why,
			Message: message + "; the command was ended",
			Hint:    "see what it left half done before it is run again"}
	case errors.Is(released, core.ErrUnknownOutcome):
		a.note(fmt.Sprintf("lock %q: it is not known whether it is free again; if not, it will be within the TTL", name))
	case released != nil:
		a.note(fmt.Sprintf("lock %q: could not be let go, it will be free within the TTL: %s", name, oneLine(released)))
	}
	if res.Code != 0 {
		return exitError(res.Code)
	}
	return nil
}

// commandConfig looks the command up before anything is asked of the cluster.
func (a *app) commandConfig(argv []string) (*supervise.Config, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, notRunnable(argv[0], err)
	}
	cfg := &supervise.Config{
		Path: path, Args: argv, Notify: a.note,
		GuardArgs: []string{roleGuard}, StubArgs: []string{roleStub},
	}
	for _, s := range []struct {
		stream any
		to     **os.File
	}{{a.stdin, &cfg.Stdin}, {a.stdout, &cfg.Stdout}, {a.stderr, &cfg.Stderr}} {
		if *s.to, err = file(s.stream); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

func notRunnable(command string, err error) *Error {
	e := &Error{Exit: exitNotRunnable, Code: "failed_precondition", Reason: "not_executable", cause: err,
		Message: fmt.Sprintf("command %q cannot be executed: %v", command, why(err))}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		e.Exit, e.Code, e.Reason = exitNoCommand, "not_found", "no_command"
		e.Message = fmt.Sprintf("command %q not found", command)
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "chmod +x " + command
	}
	return e
}

// why is what the system said, without what is said already.
func why(err error) error {
	if lookup, ok := errors.AsType[*exec.Error](err); ok {
		return lookup.Err
	}
	return err
}

// withoutOwn leaves out what an outer command under ownership was given.
func withoutOwn(env []string) []string {
	out := make([]string, 0, len(env)+4)
	for _, kv := range env {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "CONCLAVE_NAME", "CONCLAVE_TOKEN", "CONCLAVE_SESSION", "CONCLAVE_OWNER":
		default:
			out = append(out, kv)
		}
	}
	return out
}

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
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/lock"
)

// opening bounds how long a session may take to open: etcd itself answers within
// seven seconds that it has no leader.
const opening = 10 * time.Second

// How long letting go may take when etcd does not answer: of a place in line, which
// nobody waits behind for longer than the TTL, and of a name.
const (
	leaving   = 2 * time.Second
	releasing = 10 * time.Second
)

// maxForcedGrace is the longest time that a forced release leaves a command.
const maxForcedGrace = 10 * time.Second

var (
	errWaited   = errors.New("held by others")
	errTimedOut = errors.New("timed out")
	errNoAnswer = errors.New("etcd does not answer")
)

// A signalError says which signal ended the wait.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string { return "signal: " + e.sig.String() }

// An owned name, of whatever kind.
type owned struct {
	context context.Context
	token   core.Token
	release func() error
}

// lockRun runs argv under the lock.
func (a *app) lockRun(ctx context.Context, name string, argv []string, r lockRequest) error {
	if r.err != nil {
		return r.err
	}
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	if err := keyspace.CheckNamespace("namespace", a.namespace()); err != nil {
		return usage("invalid_namespace", "", "%s", err)
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	cfg, err := a.commandConfig(argv)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)

	acquiring, done := a.acquiring(ctx, signals)
	s, o, err := a.acquire(acquiring, t, name, r)
	done()
	if err != nil {
		if s != nil {
			// Why the name was not acquired is what matters.
			_ = letGo(s, nil, leaving, signals)
		}
		return err
	}
	if told, ok := errors.AsType[signalError](context.Cause(acquiring)); ok {
		// The signal came between the acquisition and the command.
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

// acquire opens a session and waits for the name. The session is returned, to be
// closed, also if the name was not acquired.
func (a *app) acquire(ctx context.Context, t target, name string, r lockRequest) (*core.Session, *owned, error) {
	c, err := a.dial(ctx, t)
	if err != nil {
		return nil, nil, whyNot(ctx, err, name)
	}
	open, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	s, err := core.NewSession(open, c, core.WithTTL(r.ttl.value), core.WithNamespace(a.namespace()))
	if err != nil {
		if open.Err() != nil && ctx.Err() == nil {
			err = unavailable(t, err)
		}
		return nil, nil, errors.Join(whyNot(ctx, err, name), c.Close())
	}
	o, err := r.lock(ctx, s, name)
	if err != nil {
		return s, nil, whyNot(ctx, err, name)
	}
	return s, o, nil
}

// lock acquires name in the mode that the flags say.
func (f lockFlags) lock(ctx context.Context, s *core.Session, name string) (*owned, error) {
	if f.wait.set && !f.tries() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.wait.value, errWaited)
		defer cancel()
	}
	o, err := f.kind(s, name)(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errWaited) {
		err = fmt.Errorf("lock %q: still not free after --wait %s: %w", name, short(f.wait.value), errWaited)
	}
	return o, err
}

// forcedGrace is what a forced release by an operator leaves the command.
func (f lockFlags) forcedGrace() time.Duration { return min(f.grace.value, maxForcedGrace) }

// kind returns how to acquire the name: waiting or trying; alone, shared or one of several.
func (f lockFlags) kind(s *core.Session, name string) func(context.Context) (*owned, error) {
	opts := []lock.Option{lock.WithPurpose(f.purpose), lock.WithGrace(f.forcedGrace())}
	if f.slots > 0 {
		sem := lock.NewSemaphore(s, name, f.slots, opts...)
		acquire := sem.Acquire
		if f.tries() {
			acquire = sem.TryAcquire
		}
		return func(ctx context.Context) (*owned, error) {
			p, err := acquire(ctx, 1)
			if err != nil {
				return nil, err
			}
			return &owned{p.Context(), p.Token(), p.Release}, nil
		}
	}
	m := lock.NewRWMutex(s, name, opts...)
	acquire := m.Lock
	switch {
	case f.shared && f.tries():
		acquire = m.TryRLock
	case f.shared:
		acquire = m.RLock
	case f.tries():
		acquire = m.TryLock
	}
	return func(ctx context.Context) (*owned, error) {
		h, err := acquire(ctx)
		if err != nil {
			return nil, err
		}
		return &owned{h.Context(), h.Token(), h.Unlock}, nil
	}
}

// whyNot says why the name was not acquired.
func whyNot(ctx context.Context, err error, name string) error {
	sig, signaled := errors.AsType[signalError](context.Cause(ctx))
	switch {
	case signaled:
		return exitError(128 + int(sig.sig))
	case errors.Is(context.Cause(ctx), errTimedOut):
		return &Error{Exit: ExitTimeout, Code: "deadline_exceeded", Reason: "timeout", cause: err,
			Message: fmt.Sprintf("lock %q: not acquired before --timeout", name)}
	case errors.Is(err, errWaited), errors.Is(err, lock.ErrLocked):
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "locked", cause: err,
			Message: oneLine(err), Hint: "wait longer with --wait, or without it as long as it takes"}
	case ctx.Err() != nil:
		return &Error{Exit: ExitFailed, Code: "canceled", Reason: "canceled", Message: oneLine(err), cause: err}
	}
	return err
}

// runUnder runs the command and lets the name go.
func (a *app) runUnder(cfg *supervise.Config, s *core.Session, o *owned, name string, r lockRequest) error {
	cfg.Env = append(withoutOwn(a.environ),
		"CONCLAVE_NAME="+name,
		"CONCLAVE_TOKEN="+strconv.FormatInt(int64(o.token), 10),
		"CONCLAVE_SESSION="+strconv.FormatInt(int64(s.Lease()), 16),
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
func letGo(s *core.Session, o *owned, atMost time.Duration, signals <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() {
		var err error
		if o != nil {
			err = o.release()
		}
		closeSession(s)
		done <- err
	}()
	giveUp := time.NewTimer(atMost)
	defer giveUp.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-giveUp.C:
			return errNoAnswer
		case sig := <-signals:
			if s, ok := sig.(syscall.Signal); ok && !isUserSignal(s) {
				return errNoAnswer
			}
		}
	}
}

// closeSession lets go of everything that is left of a session, and of its client.
func closeSession(s *core.Session) {
	// What could not be told to etcd ends with the lease.
	_ = s.Close()
	_ = s.Client().Close()
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

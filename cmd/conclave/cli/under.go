package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// How long letting go may take when nobody answers: of a place in line, which
// nobody waits behind for longer than the TTL, and of a name.
const (
	leaving   = 2 * time.Second
	releasing = 10 * time.Second
)

// maxForcedGrace is the longest time that a command has to end when its name is
// taken away, or passed on, by an operator.
const maxForcedGrace = 10 * time.Second

var errLeft = errors.New("nobody answers")

// A signalError says which signal ended the wait.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string { return "signal: " + e.sig.String() }

// A job is a command that runs while this process owns a name.
type job struct {
	app     *app
	what    string // a lock, an election: what the name is one of
	name    string
	target  target
	command supervise.Config // what to run, if it has a path; every run adds what it runs under
	signals chan os.Signal
	own     func(ctx context.Context, s session) (*owned, error)
	refused func(err error) *Error // why own failed, if that is the recipe's own matter, else nil
	held    func(o *owned) error   // tells the user that the name is owned; optional
	stays   bool                   // without a command it owns until a signal says that it is enough
	tenure
}

// tenure says how long an ownership stands without renewals, and how long its end
// leaves the command.
type tenure struct{ ttl, grace durationFlag }

func defaultTenure() tenure {
	return tenure{
		ttl:   durationFlag{name: "ttl", min: minTTL, max: maxTTL, whole: true, value: defaultTTL},
		grace: durationFlag{name: "grace", max: maxTTL, value: defaultGrace},
	}
}

func (t *tenure) register(cmd *cobra.Command) {
	cmd.Flags().Var(&t.ttl, "ttl", "time until others go on without this machine after it dies, 5s to 1h")
	cmd.Flags().Var(&t.grace, "grace", "time between TERM and KILL when renewals stop")
}

// forcedGrace is what an operator's act leaves the command.
func (t tenure) forcedGrace() time.Duration { return min(t.grace.value, maxForcedGrace) }

// An outcome says how it went, once.
type outcome struct {
	err    error         // as the process would end with it; nil if the command returned 0
	opened bool          // there was a session
	ran    time.Duration // how long the name was owned; zero if it was not
	result supervise.Result
	broken bool // the command could not be started, or not be guarded
	told   bool // a signal told this process to end
}

// newJob checks everything that can be checked without asking the cluster.
func (a *app) newJob(what, name string, argv []string, t tenure) (*job, error) {
	if err := keyspace.CheckName("name", name); err != nil {
		return nil, usage("invalid_name", "", "%s", err)
	}
	to, err := a.target()
	if err != nil {
		return nil, err
	}
	if err := keyspace.CheckNamespace("namespace", a.namespace(to)); err != nil {
		return nil, usage("invalid_namespace", "", "%s", err)
	}
	command, err := a.commandConfig(argv)
	if err != nil {
		return nil, err
	}
	return &job{app: a, what: what, name: name, target: to, command: *command, tenure: t, signals: make(chan os.Signal, 8)}, nil
}

// listen has signals wait in the job's channel until stop is called.
func (j *job) listen() (stop func()) {
	signal.Notify(j.signals, forwarded()...)
	return func() { signal.Stop(j.signals) }
}

// run acquires the name, runs the command, and lets the name and its session go.
func (j *job) run(ctx context.Context) outcome {
	cfg := j.command
	acquiring, done := j.acquiring(ctx)
	s, o, err := j.acquire(acquiring, &cfg)
	done()
	told, signaled := errors.AsType[signalError](context.Cause(acquiring))
	if err == nil && !signaled && j.held != nil {
		err = j.held(o)
	}
	if err == nil && !signaled {
		return j.use(ctx, cfg, s, o)
	}
	atMost := leaving
	if err == nil { // the signal came between the acquisition and the command
		err, atMost = exitError(128+int(told.sig)), releasing
	}
	out := outcome{err: err, opened: s != nil, told: signaled}
	// Why the command did not run is what matters.
	var left error
	if s != nil {
		out.told, left = j.letGo(s, o, atMost, signaled)
	}
	switch {
	case cfg.Guard == nil:
	case errors.Is(left, errLeft):
		cfg.Guard.Leave() // which has more patience
	default:
		cfg.Guard.End()
	}
	return out
}

// acquiring bounds everything up to the acquisition: by --timeout and by the
// signals that end a program, one of which is then the context's cause. After done
// signals stay in the channel, for the command.
func (j *job) acquiring(ctx context.Context) (acquiring context.Context, done func()) {
	ctx, stop := heeding(ctx, j.signals)
	if t := j.app.flags.timeout; t.set {
		ctx, cancel := context.WithTimeoutCause(ctx, t.value, errTimedOut)
		return ctx, func() {
			stop()
			cancel()
		}
	}
	return ctx, stop
}

// heeding returns a context that the first signal that ends programs ends: it is
// then the cause. After done signals stay in the channel.
func heeding(ctx context.Context, signals <-chan os.Signal) (heeding context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case sig := <-signals:
				if s, ok := ends(sig); ok {
					cancel(signalError{s})
				}
			}
		}
	}()
	return ctx, func() {
		close(stop)
		<-stopped
		cancel(nil)
	}
}

// ends returns the signal if it is one that ends a program.
func ends(sig os.Signal) (syscall.Signal, bool) {
	s, ok := sig.(syscall.Signal)
	return s, ok && !isUserSignal(s)
}

// acquire opens a session, starts the guard that ends it if this process is killed,
// and waits for the name. The session is returned, to be closed, also if the name
// was not acquired.
func (j *job) acquire(ctx context.Context, cfg *supervise.Config) (session, *owned, error) {
	s, err := j.app.openSession(ctx, j.target, j.ttl.value)
	if err != nil {
		return nil, nil, j.whyNot(ctx, err)
	}
	will, err := j.app.will(j.target, s)
	if err == nil {
		cfg.Guard, err = supervise.StartGuard(cfg.GuardArgs, will)
	}
	if err != nil {
		return s, nil, err
	}
	o, err := j.own(ctx, s)
	if err != nil {
		return s, nil, j.whyNot(ctx, err)
	}
	return s, o, nil
}

// whyNot says why the name was not acquired.
func (j *job) whyNot(ctx context.Context, err error) error {
	sig, signaled := errors.AsType[signalError](context.Cause(ctx))
	switch {
	case signaled:
		return exitError(128 + int(sig.sig))
	case errors.Is(context.Cause(ctx), errTimedOut):
		return &Error{Exit: ExitTimeout, Code: "deadline_exceeded", Reason: "timeout", cause: err,
			Message: fmt.Sprintf("%s %q: not acquired before --timeout", j.what, j.name)}
	}
	if e := j.refused(err); e != nil {
		return e
	}
	if ctx.Err() != nil {
		return &Error{Exit: ExitFailed, Code: "canceled", Reason: "canceled", Message: oneLine(err), cause: err}
	}
	return err
}

// use does what the name is owned for, and lets the name go.
func (j *job) use(ctx context.Context, cfg supervise.Config, s session, o *owned) outcome {
	began := time.Now()
	var res supervise.Result
	var err error
	switch {
	case cfg.Path != "":
		res, err = j.runUnder(cfg, s, o)
	case j.stays:
		res = j.stay(ctx, o)
	}
	if cfg.Path == "" {
		defer cfg.Guard.End()
	}
	out := outcome{opened: true, ran: max(time.Since(began), 1), result: res, broken: err != nil, told: res.Asked}
	var left, released error
	if o.leave != nil && err == nil && !res.Lost && !res.Asked {
		out.told, left = j.leave(ctx, o)
	}
	out.told, released = j.letGo(s, o, releasing, out.told)
	out.err = j.ended(res, err, released)
	if left != nil && out.err == nil {
		out.err = left
	}
	return out
}

// runUnder runs the command.
func (j *job) runUnder(cfg supervise.Config, s session, o *owned) (supervise.Result, error) {
	cfg.Signals = j.signals
	cfg.Env = append(withoutOwn(j.app.environ),
		"CONCLAVE_NAME="+j.name,
		"CONCLAVE_TOKEN="+strconv.FormatInt(int64(o.token), 10),
		"CONCLAVE_SESSION="+s.ID(),
		"CONCLAVE_OWNER="+s.Owner())
	cfg.Env = append(cfg.Env, o.env...)
	cfg.Lost = o.context
	cfg.Remaining = func() time.Duration {
		if o.context.Err() != nil {
			return 0
		}
		return s.Remaining()
	}
	// A third of the TTL is the least that is left while renewals are acknowledged:
	// with a longer grace a healthy command would be asked to end.
	cfg.Grace = min(j.grace.value, j.ttl.value/3)
	cfg.Leftover = cfg.Grace
	cfg.LostGrace = func(cause error) time.Duration {
		if !errors.Is(cause, core.ErrRevoked) && !errors.Is(cause, core.ErrReleased) {
			return 0
		}
		// The time counts from the operator's act, which was a little earlier.
		return min(j.forcedGrace()*3/4, s.Remaining())
	}
	cfg.Interval = min(j.ttl.value/30, 500*time.Millisecond)
	return supervise.Run(cfg)
}

// stay waits for a signal that ends programs, or for the end of the ownership.
func (j *job) stay(ctx context.Context, o *owned) supervise.Result {
	for {
		select {
		case <-o.context.Done():
			return supervise.Result{Lost: true, Why: context.Cause(o.context)}
		case <-ctx.Done():
			return supervise.Result{Asked: true}
		case sig := <-j.signals:
			if _, ok := ends(sig); ok {
				return supervise.Result{Asked: true}
			}
		}
	}
}

// leave waits for the others, and reports whether a signal ended that.
func (j *job) leave(ctx context.Context, o *owned) (told bool, err error) {
	waiting, done := j.acquiring(ctx)
	defer done()
	if err := o.leave(waiting); err != nil {
		_, told = errors.AsType[signalError](context.Cause(waiting))
		return told, j.whyNot(waiting, err)
	}
	return false, nil
}

// letGo releases the name, if there is one, and closes the session, and reports
// whether a signal came. It gives up, and leaves the rest to the lease's end, when
// etcd does not answer for a while: the release itself would go on for a TTL, which
// may be an hour. A signal says that the user does not want to wait long; it may be
// one that comes twice, as those of timeout(1) do.
func (j *job) letGo(s session, o *owned, atMost time.Duration, told bool) (bool, error) {
	done := make(chan error, 1)
	go func() {
		var err error
		if o != nil {
			err = o.release()
		}
		s.close()
		done <- err
	}()
	giveUp, hurried := time.NewTimer(atMost), atMost <= leaving
	defer giveUp.Stop()
	for {
		select {
		case err := <-done:
			return told, err
		case <-giveUp.C:
			return told, errLeft
		case sig := <-j.signals:
			if _, ok := ends(sig); !ok {
				continue
			}
			told = true
			if !hurried {
				hurried = true
				giveUp.Reset(leaving)
			}
		}
	}
}

// ended says how a command ended, and tells the user what became of the name.
func (j *job) ended(res supervise.Result, err, released error) error {
	start, notStarted := errors.AsType[*supervise.StartError](err)
	switch {
	case notStarted:
		return notRunnable(start.Path, start.Err)
	case err != nil:
		return fmt.Errorf("%s %q: %w", j.what, j.name, err)
	case res.Lost:
		message := fmt.Sprintf("%s %q: no renewal was acknowledged in time", j.what, j.name)
		if res.Why != nil {
			message = oneLine(res.Why)
		}
		e := &Error{Exit: ExitLost, Code: "failed_precondition", Reason: "not_owner", cause: res.Why, Message: message}
		if j.command.Path != "" {
			e.Message += "; the command was ended"
			e.Hint = "see what it left half done before it is run again"
		}
		return e
	case errors.Is(released, core.ErrUnknownOutcome):
		j.app.note(fmt.Sprintf("%s %q: it is not known whether it is free again; if not, it will be within the TTL", j.what, j.name))
	case released != nil:
		j.app.note(fmt.Sprintf("%s %q: could not be let go, it will be free within the TTL: %s", j.what, j.name, oneLine(released)))
	}
	if res.Code != 0 {
		return exitError(res.Code)
	}
	return nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

const (
	maxAttempts       = 1_000_000
	defaultAttempts   = 20
	defaultVisibility = 30 * time.Second
	defaultBackoff    = time.Second
	maxBackoff        = 5 * time.Minute
)

type workFlags struct {
	concurrency int
	attempts    int
	visibility  durationFlag
	backoff     durationFlag
	tenure
}

func (a *app) queueWorkCommand() *cobra.Command {
	f := workFlags{
		visibility: durationFlag{name: "visibility", min: queue.MinVisibility, max: queue.MaxVisibility, value: defaultVisibility},
		backoff:    durationFlag{name: "backoff", max: maxBackoff, value: defaultBackoff},
		tenure:     defaultTenure(),
	}
	cmd := &cobra.Command{
		Use:   "work NAME [flags] -- COMMAND [argument...]",
		Short: "Run a command for every item of a queue",
		Long: `work runs the command for every item of the queue NAME, with the value on its standard
input. Exit code 0 acks the item: it is done with, and never delivered again once that is
confirmed. Any other one gives it back, and it is delivered again after a pause: --backoff
at first, twice as long each time, at most 5m. After --max-attempts deliveries it becomes a
dead letter: see conclave queue dead. All workers of a queue should give the same.

While the command runs its delivery is extended, however long it takes. When this machine
dies, or the worker is killed, its commands are killed and the items go back to the front.
So an item may be delivered twice, to two commands one after the other; what must happen
once checks CONCLAVE_TOKEN, which is larger in every later delivery, or CONCLAVE_ITEM.

The command finds CONCLAVE_ITEM, the id, and CONCLAVE_ATTEMPT, 1 at first, in its
environment, beside CONCLAVE_NAME, CONCLAVE_TOKEN, CONCLAVE_SESSION and CONCLAVE_OWNER. It
is guarded as by conclave lock run.

INT, TERM, QUIT and HUP drain the worker: it takes no further item, the commands that run
get the signal, and KILL after --grace. An item whose command still ends with 0 is acked,
the others go back to the front at once. Then work ends with 0. So a command that cannot
finish must not end with 0. USR1 and USR2 are the commands'. When etcd or the host is away,
or the session is lost, work goes on as soon as it can, once it has reached it before.

Exit codes of its own: 126 the command cannot be executed, 127 it does not exist.`,
		Example: `  conclave queue work thumbnails -- ./thumbnail.sh
  conclave queue work thumbnails --concurrency 4 --max-attempts 5 -- ./thumbnail.sh
  conclave queue work mails --visibility 5m -- sh -c 'jq -r .to | xargs ./send'`,
		Args: commandArgs("conclave queue work thumbnails -- ./thumbnail.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.queueWork(cmd.Context(), args[0], args[1:], f)
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&f.concurrency, "concurrency", 1, "how many commands run at a time, 1 to 1000")
	fs.IntVar(&f.attempts, "max-attempts", defaultAttempts, "deliveries after which an item is a dead letter, 1 to 1000000")
	fs.Var(&f.visibility, "visibility", "time until an item is delivered again after its worker stopped to extend it, 100ms to 12h")
	fs.Var(&f.backoff, "backoff", "time until an item whose command failed is delivered again, the first time, at most 5m")
	fs.Var(&f.ttl, "ttl", "time until items are delivered again after this machine dies, 5s to 1h")
	fs.Var(&f.grace, "grace", "time between TERM and KILL")
	return cmd
}

// check finds what pflag cannot.
func (f *workFlags) check() error {
	for _, n := range []struct {
		flag       string
		value, max int
	}{{"concurrency", f.concurrency, queue.MaxConcurrency}, {"max-attempts", f.attempts, maxAttempts}} {
		if n.value < 1 || n.value > n.max {
			return usage("invalid_"+n.flag, "", "--%s: %d is outside the limits: it must be between 1 and %d", n.flag, n.value, n.max)
		}
	}
	return nil
}

// A worker is `queue work`: one session after the other.
type worker struct {
	*job
	flags workFlags
	pause *backoff.ExponentialBackOff
	stood bool // there was a session
}

// queueWork runs argv for every item until a signal says that it is enough.
func (a *app) queueWork(ctx context.Context, name string, argv []string, f workFlags) error {
	j, err := a.newJob("queue", name, argv, f.tenure)
	if err != nil {
		return err
	}
	j.own = func(context.Context, session) (*owned, error) { return nil, nil } // but the session nothing, yet
	j.refused = func(error) *Error { return nil }
	w := &worker{job: j, flags: f, pause: backoff.NewExponentialBackOff()}
	w.pause.InitialInterval, w.pause.Multiplier, w.pause.MaxInterval = leastPause, 2, mostPause
	defer j.listen()()
	for {
		began := time.Now()
		err := w.once(ctx)
		if err == nil || ctx.Err() != nil || !w.again(err) {
			return err
		}
		if time.Since(began) >= steady {
			w.pause.Reset()
		}
		wait := w.pause.NextBackOff()
		a.note(fmt.Sprintf("%s; working again in %s", describe(err).Message, wait.Round(100*time.Millisecond)))
		if !w.stayAway(ctx, wait) {
			return nil
		}
	}
}

// once works under one session. Nil says that it was told to end, and has.
func (w *worker) once(ctx context.Context) error {
	cfg := w.command
	acquiring, done := w.acquiring(ctx)
	s, _, err := w.acquire(acquiring, &cfg)
	done()
	_, told := errors.AsType[signalError](context.Cause(acquiring))
	if told {
		err = nil
	}
	if err == nil && !told {
		w.stood = true
		err = newShift(ctx, w, cfg, s.(consumer)).work()
	}
	if s != nil {
		// What was not settled goes back with the session; if etcd cannot be told, after the TTL.
		told, _ = w.letGo(s, nil, releasing, told)
	}
	if cfg.Guard != nil {
		cfg.Guard.End()
	}
	if told && mayPass(err) {
		return nil
	}
	return err
}

// again reports whether an error is a reason to open another session.
func (w *worker) again(err error) bool { return w.stood && mayPass(err) }

// mayPass reports whether what failed may work a little later.
func mayPass(err error) bool {
	if err == nil {
		return false
	}
	e := describe(err)
	return e.Exit == ExitUnavailable || e.Exit == ExitUnknown || e.Reason == "no_space" ||
		e.Reason == "session_expired" || errors.Is(err, core.ErrSessionClosed)
}

// stayAway waits, and reports false when a signal says that it is enough.
func (w *worker) stayAway(ctx context.Context, d time.Duration) bool {
	heeding, done := heeding(ctx, w.signals)
	defer done()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-heeding.Done():
		return false
	}
}

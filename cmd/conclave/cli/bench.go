package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

const (
	maxBenchClients = 1000
	benchTTL        = 30 * time.Second
)

type benchFlags struct {
	clients int
	length  time.Duration
	payload int
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	cmd := group(&cobra.Command{
		Use:   "bench",
		Short: "Measure recipes on a running host, or on any etcd",
		Long: `bench measures what the target answers from here: a host by its API, or with --endpoints
an etcd by the libraries. It works in the target's namespace, on names of its own that
begin with "bench/"; a few keys of an empty queue and the history of locks are what it
leaves there. It loads the target as much as the clients can.

Every client has a session of its own, as separate programs have. Compare figures of one
machine with each other only.`,
		Example: `  conclave bench lock
  conclave bench lock --clients 64 --for 10s
  conclave bench handover --clients 16
  conclave bench queue --endpoints http://127.0.0.1:2379 -o json`,
	})
	for _, b := range []struct {
		name, short string
		run         func(r *benchRun) func(ctx context.Context, c benchClient, i int) error
	}{
		{"lock", "Acquire and release locks that nobody else wants", (*benchRun).lock},
		{"handover", "Acquire and release one lock that all clients want", (*benchRun).handover},
		{"queue", "Put an item, take one, and acknowledge it", (*benchRun).queue},
		{"session", "Open and close sessions", (*benchRun).session},
	} {
		sub := &cobra.Command{
			Use: b.name, Short: b.short, Args: exactly(0, ""),
			Example: "  conclave bench " + b.name + " --clients 16 --for 5s",
			RunE:    func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), b.name, f, b.run) },
		}
		sub.Flags().IntVar(&f.clients, "clients", 16, fmt.Sprintf("clients at work at one time, at most %d", maxBenchClients))
		sub.Flags().DurationVar(&f.length, "for", 5*time.Second, "how long it is measured")
		if b.name == "queue" {
			sub.Flags().IntVar(&f.payload, "payload", 128, "bytes of an item")
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

func (f benchFlags) check() error {
	switch {
	case f.clients < 1 || f.clients > maxBenchClients:
		return usage("invalid_clients", "", "--clients: %d is outside 1 to %d", f.clients, maxBenchClients)
	case f.length < 100*time.Millisecond || f.length > time.Hour:
		return usage("invalid_for", "", "--for: %s is outside 100ms to 1h", f.length)
	case f.payload < 0 || f.payload > 512<<10:
		return usage("invalid_payload", "", "--payload: %d is outside 0 to %d", f.payload, 512<<10)
	}
	return nil
}

// A benchClient is one client with a session of its own.
type benchClient interface {
	lock(ctx context.Context, name string) (release func() error, err error)
	put(ctx context.Context, queue string, payload []byte) error
	take(ctx context.Context, queue string) (ack func(ctx context.Context) error, err error)
	close()
}

// A benchRun is one measurement.
type benchRun struct {
	flags benchFlags
	name  string // what its names begin with
	open  func(ctx context.Context) (benchClient, error)
}

func (r *benchRun) lock() func(context.Context, benchClient, int) error {
	return func(ctx context.Context, c benchClient, i int) error {
		return once(ctx, c, fmt.Sprintf("%s/%d", r.name, i))
	}
}

func (r *benchRun) handover() func(context.Context, benchClient, int) error {
	return func(ctx context.Context, c benchClient, _ int) error { return once(ctx, c, r.name) }
}

func once(ctx context.Context, c benchClient, name string) error {
	release, err := c.lock(ctx, name)
	if err != nil {
		return err
	}
	return release()
}

// queue has every client put an item and take one, which need not be its own: there
// is always one, because each takes no more than it has put.
func (r *benchRun) queue() func(context.Context, benchClient, int) error {
	payload := make([]byte, r.flags.payload)
	return func(ctx context.Context, c benchClient, _ int) error {
		if err := c.put(ctx, r.name, payload); err != nil {
			return err
		}
		ack, err := c.take(ctx, r.name)
		if err != nil {
			return err
		}
		return ack(ctx)
	}
}

func (r *benchRun) session() func(context.Context, benchClient, int) error {
	return func(ctx context.Context, _ benchClient, _ int) error {
		c, err := r.open(ctx)
		if err != nil {
			return err
		}
		c.close()
		return nil
	}
}

func (a *app) bench(ctx context.Context, what string, f benchFlags, run func(*benchRun) func(context.Context, benchClient, int) error) error {
	if err := f.check(); err != nil {
		return err
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	open, closeTarget, err := a.benchTarget(ctx, t)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer closeTarget()
	r := &benchRun{flags: f, name: "bench/" + uuid.NewString(), open: open}
	clients := make([]benchClient, f.clients)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.close()
			}
		}
	}()
	for i := range clients {
		c, err := open(ctx)
		if err != nil {
			return explain(ctx, t, err)
		}
		clients[i] = c
	}
	stop, restoreSignals := signal.NotifyContext(ctx, ending()...)
	defer restoreSignals()
	context.AfterFunc(stop, restoreSignals) // a second signal ends the process
	result := measure(ctx, stop, f.length, clients, run(r))
	result.Bench, result.Target = what, t.addresses()
	if err := a.printBench(result); err != nil {
		return err
	}
	if result.failed != nil {
		return explain(ctx, t, result.failed)
	}
	return nil
}

// measure has all clients at work for a while, or until stop ends. What they have
// begun they end.
func measure(ctx, stop context.Context, length time.Duration, clients []benchClient, do func(context.Context, benchClient, int) error) benchResult {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	errs := 0
	began := time.Now()
	over := began.Add(length)
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			var mine []time.Duration
			var err error
			for now := time.Now(); now.Before(over) && stop.Err() == nil; {
				if err = do(ctx, c, i); err != nil {
					break
				}
				end := time.Now()
				mine = append(mine, end.Sub(now))
				now = end
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err != nil {
				errs++
				failed = errors.Join(failed, err)
			}
		})
	}
	all.Wait()
	return summarize(len(clients), time.Since(began), took, errs, failed)
}

// A benchResult is what the commands print. Times are in microseconds.
type benchResult struct {
	Bench      string  `json:"bench"`
	Target     string  `json:"target"`
	Clients    int     `json:"clients"`
	Seconds    float64 `json:"seconds"`
	Operations int     `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	P50        int64   `json:"p50_us"`
	P95        int64   `json:"p95_us"`
	P99        int64   `json:"p99_us"`
	Max        int64   `json:"max_us"`
	Errors     int     `json:"errors"` // clients that gave up

	failed error
}

func summarize(clients int, length time.Duration, took []time.Duration, errs int, failed error) benchResult {
	r := benchResult{Clients: clients, Seconds: length.Seconds(), Operations: len(took), Errors: errs, failed: failed}
	if len(took) == 0 {
		return r
	}
	slices.Sort(took)
	at := func(part float64) int64 { return took[min(int(part*float64(len(took))), len(took)-1)].Microseconds() }
	r.PerSecond = float64(len(took)) / length.Seconds()
	r.P50, r.P95, r.P99, r.Max = at(0.50), at(0.95), at(0.99), at(1)
	return r
}

func (a *app) printBench(r benchResult) error {
	ms := func(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }
	return a.printList([]benchResult{r}, []string{"BENCH", "CLIENTS", "OPERATIONS", "PER SECOND", "P50", "P95", "P99", "MAX", "ERRORS"}, [][]string{{
		r.Bench, fmt.Sprint(r.Clients), fmt.Sprint(r.Operations), fmt.Sprintf("%.0f", r.PerSecond),
		ms(r.P50), ms(r.P95), ms(r.P99), ms(r.Max), fmt.Sprint(r.Errors),
	}})
}

package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
)

const (
	maxLook     = 1000
	defaultPeek = 10
	maxShown    = 60 // characters of a value in a table for a person
)

// itemView is an item as documents have it. What is no text is data.
type itemView struct {
	ID         string     `json:"id"`
	Value      string     `json:"value"`
	Data       []byte     `json:"data,omitempty"`
	Attempts   int        `json:"attempts"`
	EnqueuedAt *time.Time `json:"enqueuedAt"`
	Priority   int        `json:"priority"`
	Group      string     `json:"group"`
	Reason     string     `json:"reason"`
}

func (a *app) queuePeekCommand() *cobra.Command {
	most := defaultPeek
	cmd := &cobra.Command{
		Use:   "peek NAME",
		Short: "Show the items that are next",
		Long: `peek shows the items of the queue NAME that are next, in their order, and takes none.
The columns are id, attempts so far, when it was put, priority, value, and why the last
attempt failed.`,
		Example: `  conclave queue peek thumbnails
  conclave queue peek thumbnails --count 100 -o json | jq -r '.[].value'`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLook(most); err != nil {
				return err
			}
			return a.queueLook(cmd.Context(), args[0], most, false)
		},
	}
	cmd.Flags().IntVar(&most, "count", defaultPeek, "at most so many, 1 to 1000")
	return cmd
}

func checkLook(n int) error {
	if n < 1 || n > maxLook {
		return usage("invalid_count", "", "--count: %d is outside the limits: it must be between 1 and %d", n, maxLook)
	}
	return nil
}

// queueLook shows items, or dead letters.
func (a *app) queueLook(ctx context.Context, name string, most int, dead bool) error {
	return a.withQueue(ctx, name, answering, func(ctx context.Context, t target, q queues) error {
		resp, err := ask(ctx, q, queuev1.QueueServiceClient.Peek, &queuev1.PeekRequest{
			Namespace: a.namespace(t), Name: name, MaxItems: int32(most), Dead: dead}) //nolint:gosec // at most 1,000
		if err != nil {
			return err
		}
		return a.printEntries(resp.GetItems())
	})
}

func (a *app) printEntries(items []*queuev1.Entry) error {
	views, rows := []itemView{}, [][]string{}
	for _, e := range items {
		views = append(views, itemView{ID: e.GetId(), Value: e.GetValue(), Data: e.GetData(), Attempts: int(e.GetAttempts()),
			EnqueuedAt: timeOf(e.GetEnqueuedAt()), Priority: int(e.GetPriority()), Group: e.GetGroup(), Reason: e.GetReason()})
		rows = append(rows, []string{e.GetId(), strconv.Itoa(int(e.GetAttempts())), a.when(e.GetEnqueuedAt()),
			strconv.Itoa(int(e.GetPriority())), a.shown(e.GetValue(), e.GetData()), clean(e.GetReason())})
	}
	return a.printList(views, []string{"ID", "ATTEMPTS", "PUT", "PRIORITY", "VALUE", "REASON"}, rows)
}

// shown is a value for a table.
func (a *app) shown(value string, data []byte) string {
	if len(data) > 0 {
		return fmt.Sprintf("(%d bytes)", len(data))
	}
	value = clean(value)
	if isTerminal(a.stdout) && utf8.RuneCountInString(value) > maxShown {
		value = string([]rune(value)[:maxShown-1]) + "…"
	}
	return value
}

// statsView is what is in a queue. Oldest is null while nothing is next.
type statsView struct {
	Name      string     `json:"name"`
	Depth     int64      `json:"depth"`
	Ready     int64      `json:"ready"`
	Delayed   int64      `json:"delayed"`
	InFlight  int64      `json:"inFlight"`
	Blocked   int64      `json:"blocked"`
	Arriving  int64      `json:"arriving"`
	Dead      int64      `json:"dead"`
	Paused    bool       `json:"paused"`
	Oldest    *time.Time `json:"oldest"`
	Consumers int32      `json:"consumers"`
}

func (a *app) queueStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats NAME",
		Short: "Count the items of a queue",
		Long: `stats counts the items of the queue NAME, all at one moment: depth is how many were
neither acked nor given up; of those, ready could be delivered now, delayed are not due
yet, in flight are delivered, and blocked wait for another one of their group. Arriving
are those that another program's transaction put and that are not in their place yet.
Oldest is when the one that is next was put; consumers are sessions that wait for items.`,
		Example: `  conclave queue stats thumbnails
  conclave queue stats thumbnails -o json | jq .depth`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueue(cmd.Context(), args[0], answering, func(ctx context.Context, t target, q queues) error {
				s, err := ask(ctx, q, queuev1.QueueServiceClient.Stats, &queuev1.StatsRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				return a.printStats(args[0], s)
			})
		},
	}
}

func (a *app) printStats(name string, s *queuev1.StatsResponse) error {
	v := statsView{Name: name, Depth: s.GetDepth(), Ready: s.GetReady(), Delayed: s.GetDelayed(), InFlight: s.GetInFlight(), Blocked: s.GetBlocked(),
		Arriving: s.GetArriving(), Dead: s.GetDead(), Paused: s.GetPaused(), Oldest: timeOf(s.GetOldest()), Consumers: s.GetConsumers()}
	rows := [][]string{}
	for _, n := range []struct {
		label string
		count int64
	}{{"depth", v.Depth}, {"ready", v.Ready}, {"delayed", v.Delayed}, {"in flight", v.InFlight}, {"blocked", v.Blocked},
		{"arriving", v.Arriving}, {"dead", v.Dead}, {"consumers", int64(v.Consumers)}} {
		rows = append(rows, []string{n.label, strconv.FormatInt(n.count, 10)})
	}
	rows = append(rows, []string{"oldest", a.when(s.GetOldest())}, []string{"paused", map[bool]string{false: "no", true: "yes"}[v.Paused]})
	return a.print(v, rows)
}

package main

import (
	"context"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

// keeper watches the time for the jobs of one namespace. Every host has one, and
// each thing that they decide is a transaction which one of them wins.
type keeper struct {
	mirror *mirror
	now    func() time.Time
	// tried is the revision of a job's record that this keeper has decided on
	// already: the mirror has yet to learn what came of it.
	tried map[string]int64
}

func newKeeper(m *mirror, now func() time.Time) *keeper {
	return &keeper{mirror: m, now: now, tried: make(map[string]int64)}
}

// run keeps the jobs until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		wake, changed, err := k.tick(ctx)
		if err != nil && ctx.Err() == nil {
			k.mirror.env.Log.Warn("jobs may come due late", slog.Any("error", err))
		}
		wait(ctx, wake, changed)
	}
}

// wait waits until a time or a change, and never long: clocks are set.
func wait(ctx context.Context, until time.Duration, changed <-chan struct{}) {
	t := time.NewTimer(min(max(until, 0), 30*time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
}

// decision is a job as it is to be.
type decision struct {
	job  job
	rev  int64
	free string // the key of a run that must have no worker; empty: none
}

// tick decides all that is due, and returns how long nothing else is.
func (k *keeper) tick(ctx context.Context) (wake time.Duration, changed <-chan struct{}, err error) {
	now := k.now()
	wake = time.Hour
	var todo []decision
	changed = k.mirror.look(func(jobs map[string]known, runs map[string]run) {
		for name, j := range jobs {
			if k.tried[name] == j.rev {
				continue
			}
			delete(k.tried, name)
			if d, ok := k.decide(j, runs, now); ok {
				todo = append(todo, d)
			} else if at := j.job.wake(); !at.IsZero() {
				wake = min(wake, at.Sub(now))
			}
		}
	})
	for _, d := range todo {
		var conditions []clientv3.Cmp
		if d.free != "" {
			conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(d.free), "=", 0))
		}
		if _, err = write(ctx, k.mirror.env, k.mirror.keys, d.job, d.rev, conditions); err != nil {
			return time.Second, changed, err
		}
		k.tried[d.job.Name] = d.rev
	}
	return wake, changed, nil
}

// decide notes what came due, and gives up a run whose last worker is gone.
func (k *keeper) decide(j known, runs map[string]run, now time.Time) (decision, bool) {
	for i, w := range j.job.Waiting {
		key := k.mirror.keys.run(j.job.Name, w.ID)
		if _, taken := runs[key]; taken || w.Attempts < j.job.MaxAttempts {
			continue
		}
		n := j.job.clone()
		n.Waiting[i].Error = "the worker's session has ended"
		n.end(i, now, cronv1.Outcome_OUTCOME_FAILED, 0)
		return decision{job: n, rev: j.rev, free: key}, true
	}
	n, changed := j.job.advance(now)
	return decision{job: n, rev: j.rev}, changed
}

package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// lastKey holds the number of the last run that was begun.
const lastKey = "example/scheduler/last"

// A scheduler runs its job while it leads.
type scheduler struct {
	client *clientv3.Client
	every  time.Duration
	out    io.Writer
	job    func(ctx context.Context, out io.Writer, run int64, token core.Token) error
}

// run stands for election until ctx ends, with a new session whenever one is lost.
func (s *scheduler) run(ctx context.Context, me string, opts ...core.SessionOption) error {
	// snippet:scheduler
	return core.Keep(ctx, s.client, func(ctx context.Context, session *core.Session) error {
		return election.New(session, "scheduler").Run(ctx, me, s.lead)
	}, opts...)
	// end
}

// lead schedules for one term. Its context ends when somebody else may lead.
func (s *scheduler) lead(ctx context.Context) error {
	term, _ := election.TermFrom(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		run, err := s.begin(ctx, term)
		switch {
		case errors.Is(err, election.ErrLost):
			return err
		case err == nil:
			err = s.job(ctx, s.out, run, term.Token())
		}
		if err != nil { // of this run: the next one is another try
			if _, err := io.WriteString(s.out, "failed: "+err.Error()+"\n"); err != nil {
				return err
			}
		}
		timer.Reset(s.every)
	}
}

// begin counts the next run, in a transaction that commits only while the term
// stands: of two leaders, one of whom does not know that it was replaced, no two
// begin the same run. A run that was counted and whose leader died is left out.
func (s *scheduler) begin(ctx context.Context, term *election.Term) (run int64, err error) {
	resp, err := s.client.Get(ctx, lastKey)
	if err != nil {
		return 0, err
	}
	if len(resp.Kvs) > 0 {
		if run, err = strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64); err != nil {
			return 0, err
		}
	}
	run++
	_, err = term.Commit(ctx, clientv3.OpPut(lastKey, strconv.FormatInt(run, 10)))
	return run, err
}

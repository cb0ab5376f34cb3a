package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/conclavehq/conclave/election"
)

// How long a candidate stays away after its command ended by itself. A command that
// ran for steady is not one that fails at once.
const (
	leastPause = time.Second
	mostPause  = 30 * time.Second
	steady     = time.Minute
)

// A candidacy is `election run`: one term after the other.
type candidacy struct {
	*job
	once  bool
	pause *backoff.ExponentialBackOff
	stood bool // there was a session
}

// electionRun runs argv while this process leads.
func (a *app) electionRun(ctx context.Context, name string, argv []string, f electionFlags) error {
	j, err := a.newJob("election", name, argv, f.tenure)
	if err != nil {
		return err
	}
	j.own = func(ctx context.Context, s session) (*owned, error) { return s.campaign(ctx, name, f) }
	j.refused = func(error) *Error { return nil }
	c := candidacy{job: j, once: f.once, pause: backoff.NewExponentialBackOff()}
	c.pause.InitialInterval, c.pause.Multiplier, c.pause.MaxInterval = leastPause, 2, mostPause
	defer j.listen()()
	return c.stand(ctx)
}

// stand stands for election until there is a reason not to.
func (c *candidacy) stand(ctx context.Context) error {
	for {
		out := c.run(ctx)
		c.stood = c.stood || out.opened
		if !c.again(ctx, out) {
			return out.err
		}
		why, wait := c.next(out)
		if wait > 0 {
			why += ", in " + wait.Round(100*time.Millisecond).String()
		}
		c.app.note(why)
		if err := c.stayAway(ctx, wait); err != nil {
			return err
		}
	}
}

// again reports whether it stands again after a term, or an attempt.
func (c *candidacy) again(ctx context.Context, out outcome) bool {
	switch {
	case out.told, out.broken, ctx.Err() != nil:
		return false
	case out.ran > 0:
		return !c.once
	}
	// It has not led. What may pass by itself is waited for, but for a target that
	// never answered: that is rather a mistake.
	e := describe(out.err)
	return e.Exit == ExitUnavailable && c.stood || e.Reason == "session_expired" || e.Exit == ExitUnknown
}

// next says what happened, and how long to stay away.
func (c *candidacy) next(out outcome) (why string, wait time.Duration) {
	switch {
	case out.ran >= steady:
		c.pause.Reset()
	case out.ran == 0:
		return fmt.Sprintf("%s; standing again", describe(out.err).Message), c.pause.NextBackOff()
	}
	if out.result.Lost {
		return describe(out.err).Message + "; standing again", 0
	}
	return fmt.Sprintf("election %q: the command ended with exit code %d; standing again", c.name, out.result.Code), c.pause.NextBackOff()
}

// stayAway waits, or returns what a signal says.
func (c *candidacy) stayAway(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case sig := <-c.signals:
			if s, ok := ends(sig); ok {
				return exitError(128 + int(s))
			}
		}
	}
}

func (s *etcdSession) campaign(ctx context.Context, name string, f electionFlags) (*owned, error) {
	t, err := election.New(s.Session, name, election.WithPriority(f.priority), election.WithGrace(f.forcedGrace()),
		election.WithZone(f.zone), election.WithPreferredZones(f.preferred...)).Campaign(ctx, f.value)
	if err != nil {
		return nil, err
	}
	return &owned{context: t.Context(), token: t.Token(), release: t.Resign}, nil
}

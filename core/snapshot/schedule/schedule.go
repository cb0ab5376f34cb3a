package schedule

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/snapshot"
)

// The limits and defaults of a Schedule.
const (
	DefaultEvery = time.Hour
	MinEvery     = time.Minute
	DefaultKeep  = 24

	maxRetry    = 5 * time.Minute
	maxPatience = 10 * time.Minute
)

// ErrInvalid means that a field of a Schedule is outside its limits. The message names it.
var ErrInvalid = errors.New("invalid schedule of snapshots")

// A Schedule says how often snapshots are taken, and how many are kept.
type Schedule struct {
	// To is a directory, or the URL of a bucket. Required.
	To string
	// Every is the time from one snapshot to the next, a minute or more. Default one hour.
	Every time.Duration
	// Keep is how many snapshots stay. Default 24.
	Keep int

	// Client reaches the etcd. If its authentication is on, the user must have the role root. Required.
	Client *clientv3.Client
	// Host tells the hosts that share a bucket apart.
	Host string
	// Leads says whether this host runs the member that leads. The others come later, if the leader's does not. Nil: nobody leads.
	Leads func(ctx context.Context) bool
	// Taken is called after every try, with what was taken or why it failed. Nil is allowed.
	Taken func(f File, took time.Duration, err error)
	// Log receives what happens. Nil: silence.
	Log *slog.Logger
}

// Check returns an error that is ErrInvalid for a field outside its limits.
func (s Schedule) Check() error {
	switch {
	case s.To == "":
		return fmt.Errorf("%w: to must name a directory or a bucket", ErrInvalid)
	case s.Every != 0 && s.Every < MinEvery:
		return fmt.Errorf("%w: every: %s is less than %s", ErrInvalid, s.Every, MinEvery)
	case s.Keep < 0:
		return fmt.Errorf("%w: keep: %d is negative", ErrInvalid, s.Keep)
	}
	return nil
}

func (s Schedule) withDefaults() Schedule {
	if s.Every == 0 {
		s.Every = DefaultEvery
	}
	if s.Keep == 0 {
		s.Keep = DefaultKeep
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Taken == nil {
		s.Taken = func(File, time.Duration, error) {}
	}
	return s
}

// Run takes snapshots until ctx ends, and returns nil then. Failures are logged and tried again; an error is a Schedule outside its
// limits, or a place that cannot be opened at all.
func (s Schedule) Run(ctx context.Context) error {
	if err := s.Check(); err != nil {
		return err
	}
	s = s.withDefaults()
	place, err := OpenPlace(ctx, s.To)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		wait, err := s.turn(ctx, place)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("no snapshot was taken", "to", s.To, "error", err, "again in", wait)
		}
		pause(ctx, wait)
	}
	return place.Close()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// turn takes a snapshot if one is due, and returns when to look again.
func (s Schedule) turn(ctx context.Context, place *Place) (time.Duration, error) {
	files, err := place.List(ctx)
	if err != nil {
		return s.retry(), err
	}
	if wait := s.due(time.Now(), files, s.patience(ctx)); wait > 0 {
		return wait, nil
	}
	begun := time.Now()
	f, err := s.take(ctx, place, begun)
	s.Taken(f, time.Since(begun), err)
	if err != nil {
		return s.retry(), err
	}
	s.Log.Info("snapshot taken", "to", s.To, "file", f.Name, "bytes", f.Bytes, "revision", f.Revision, "took", time.Since(begun))
	return s.Every, s.prune(ctx, place)
}

// due returns how long there is to wait for the next snapshot.
func (s Schedule) due(now time.Time, files []File, patience time.Duration) time.Duration {
	if len(files) == 0 {
		return 0
	}
	// One that claims to be of the future was taken by a clock that is wrong, and must not stop all that follow.
	age := max(now.Sub(files[0].Time), -s.Every)
	return s.Every + patience - age
}

// patience is for how long this host leaves a snapshot in a shared place to others: the leader's host comes first, the rest in an order
// of their own.
func (s Schedule) patience(ctx context.Context) time.Duration {
	if !IsBucket(s.To) || (s.Leads != nil && s.Leads(ctx)) {
		return 0
	}
	span := min(s.Every/4, maxPatience)
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.Host)) // it cannot fail
	return span/4 + span*time.Duration(h.Sum32()%1000)/1000*3/4
}

func (s Schedule) retry() time.Duration { return min(s.Every/10, maxRetry) }

// take takes one snapshot.
func (s Schedule) take(ctx context.Context, place *Place, now time.Time) (f File, err error) {
	dir, remove, err := place.scratch()
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file := filepath.Join(dir, "snapshot.db")
	saved, err := snapshot.SaveFile(ctx, s.Client, file, snapshot.SaveOptions{})
	if err != nil {
		return f, err
	}
	f = File{Name: NameOf(now, saved.Revision), Time: now.UTC().Truncate(time.Second), Revision: saved.Revision, Bytes: saved.Bytes}
	return f, place.add(ctx, file, f.Name)
}

// prune removes what is more than to be kept, the oldest first.
func (s Schedule) prune(ctx context.Context, place *Place) error {
	files, err := place.List(ctx)
	if err != nil {
		return err
	}
	var failed error
	for i := len(files) - 1; i >= s.Keep; i-- {
		if err := place.remove(ctx, files[i].Name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove %s: %w", files[i].Name, err))
		}
	}
	return failed
}

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/upkeep"
)

const (
	// alarmLook is how often a host looks whether the store has reached its quota.
	alarmLook = time.Second
	// spaceLook is how often it looks whether a database is worth a defragmentation.
	spaceLook = 10 * time.Minute
	// retry is after how long something is tried again that did not work.
	retry = time.Minute
)

// A keeper looks after the databases of embedded members. The leader's host does,
// so that there is one for the cluster, and nothing needs to be written to find
// out which: a store that has reached its quota takes no writes.
type keeper struct {
	member *embedded.Member
	client *clientv3.Client
	log    *slog.Logger

	vitals *vitals

	nextSpace, nextAlarm time.Time // not before
}

// run looks after them until ctx ends.
func (k *keeper) run(ctx context.Context) {
	k.nextSpace = time.Now().Add(spaceLook)
	keep(ctx, k.vitals, func(now time.Time) {
		if k.member.Leads() {
			k.look(ctx, now)
		}
	})
}

// keep takes vitals and looks after databases until ctx ends, the one beside the other:
// a defragmentation takes minutes, of which the vitals are to tell.
func keep(ctx context.Context, v *vitals, look func(now time.Time)) {
	var sampling sync.WaitGroup
	defer sampling.Wait()
	sampling.Go(func() {
		v.take(time.Now())
		each(ctx, vitalEvery, v.take)
	})
	each(ctx, alarmLook, look)
}

// each does something again and again until ctx ends.
func each(ctx context.Context, every time.Duration, do func(now time.Time)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if ctx.Err() == nil { // a tick that came with the end is none
				do(now)
			}
		}
	}
}

func (k *keeper) look(ctx context.Context, now time.Time) {
	var err error
	switch {
	case k.member.NoSpace() && now.After(k.nextAlarm):
		k.nextAlarm = now.Add(retry)
		k.log.Warn("etcd has reached its quota and takes no writes: making room")
		err = upkeep.Recover(ctx, k.client, func(text string) { k.log.Warn("making room: " + text) })
	case now.After(k.nextSpace):
		k.nextSpace = now.Add(spaceLook)
		err = k.defragment(ctx)
	}
	if err != nil && ctx.Err() == nil {
		k.log.Warn("looking after etcd's databases", "error", err)
	}
}

// defragment defragments the followers that are worth it, one after the other, and
// this member if there are no others. A leader among others hands over, and the
// next leader's host defragments it.
func (k *keeper) defragment(ctx context.Context) error {
	members, err := upkeep.Look(ctx, k.client)
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case m.Err != nil || !m.Hollow():
			continue
		case m.Leader && slices.ContainsFunc(members, func(o upkeep.Member) bool { return !o.Leader && !o.Learner && o.Err == nil }):
			k.log.Info("handing over, so that this member can be defragmented")
			k.member.HandOver(ctx)
			return nil
		}
		after, err := upkeep.Defragment(ctx, k.client, m)
		if errors.Is(err, upkeep.ErrDown) {
			return err
		}
		if err != nil {
			return fmt.Errorf("defragment: %w", err)
		}
		k.log.Info("defragmented", "member", m.Name, "bytes_before", m.Size, "bytes_after", after.Size)
	}
	return nil
}

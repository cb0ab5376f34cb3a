package status

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

const (
	// maxWatchers bounds the WatchEvents calls under way.
	maxWatchers = 256
	// backlog is how many events may wait for one of them.
	backlog = 256
	// pollEvery is how often etcd is asked while somebody watches.
	pollEvery = 2 * time.Second
)

// A watcher is one WatchEvents call.
type watcher struct {
	events chan *hostv1.WatchEventsResponse
	missed int64 // guarded by the service's mu
}

// WatchEvents implements HostService.
func (s *Service) WatchEvents(_ *hostv1.WatchEventsRequest, stream grpc.ServerStreamingServer[hostv1.WatchEventsResponse]) error {
	w := &watcher{events: make(chan *hostv1.WatchEventsResponse, backlog)}
	if err := s.join(w); err != nil {
		return err
	}
	defer s.leave(w)
	if err := stream.Send(&hostv1.WatchEventsResponse{At: timestamppb.Now()}); err != nil {
		return err
	}
	for {
		select {
		case e := <-w.events:
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-s.life.Done():
			return stopping()
		case <-stream.Context().Done():
			cause := context.Cause(stream.Context())
			if _, ok := status.FromError(cause); ok {
				return cause
			}
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func stopping() error {
	return recipe.Errorf(codes.Unavailable, "host_stopping", "the host is stopping")
}

// join adds a watcher. The first one starts the poll.
func (s *Service) join(w *watcher) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.life.Err() != nil:
		return stopping()
	case len(s.watchers) >= maxWatchers:
		return recipe.Errorf(codes.ResourceExhausted, "limit_watchers", "%d calls watch the host's events, which is the limit", maxWatchers)
	}
	s.watchers[w] = struct{}{}
	for _, p := range s.standing {
		w.tell(appeared(p))
	}
	if s.stopPoll == nil {
		ctx, stop := context.WithCancel(s.life)
		s.stopPoll = stop
		s.work.Go(func() { s.poll(ctx) })
	}
	return nil
}

// leave takes a watcher out. The last one ends the poll.
func (s *Service) leave(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
	if len(s.watchers) == 0 {
		s.stopPoll()
		s.stopPoll, s.looked, s.standing = nil, false, nil
	}
}

// RecipeChanged tells watchers that a recipe came, went, or changed its state.
// The message is not changed afterwards.
func (s *Service) RecipeChanged(r *hostv1.Recipe) {
	s.publish(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_Recipe{Recipe: r}})
}

// SessionReleased tells watchers that fast release ended a session.
func (s *Service) SessionReleased(id, namespace, owner string) {
	s.publish(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_SessionReleased{
		SessionReleased: &hostv1.SessionReleased{SessionId: id, Namespace: namespace, Owner: owner}}})
}

// publish hands an event to every watcher.
func (s *Service) publish(e *hostv1.WatchEventsResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishLocked(e)
}

func (s *Service) publishLocked(e *hostv1.WatchEventsResponse) {
	e.At = timestamppb.Now()
	for w := range s.watchers {
		w.tell(e)
	}
}

// tell hands an event to a watcher, or counts it if there is no place.
func (w *watcher) tell(e *hostv1.WatchEventsResponse) {
	if w.missed > 0 {
		e = &hostv1.WatchEventsResponse{At: e.GetAt(), Missed: w.missed, Event: e.GetEvent()}
	}
	select {
	case w.events <- e:
		w.missed = 0
	default:
		w.missed++
	}
}

func appeared(p *hostv1.Problem) *hostv1.WatchEventsResponse {
	return &hostv1.WatchEventsResponse{At: timestamppb.Now(), Event: &hostv1.WatchEventsResponse_ProblemAppeared{ProblemAppeared: p}}
}

// poll asks etcd again and again, and tells what has changed.
func (s *Service) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		l := s.look(ctx)
		if !s.compare(ctx, l.etcd.GetLeader(), s.problems(l, s.cfg.Recipes())) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// compare tells what is different from the look before, unless the poll has ended.
func (s *Service) compare(ctx context.Context, leader string, found []*hostv1.Problem) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	if s.looked && leader != s.leader {
		s.publishLocked(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_LeaderChanged{
			LeaderChanged: &hostv1.LeaderChanged{Leader: leader, Before: s.leader}}})
	}
	for _, p := range found {
		if !in(s.standing, p) {
			s.publishLocked(appeared(p))
		}
	}
	for _, p := range s.standing {
		if !in(found, p) {
			s.publishLocked(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_ProblemVanished{ProblemVanished: p}})
		}
	}
	s.looked, s.leader, s.standing = true, leader, found
	return true
}

func in(list []*hostv1.Problem, p *hostv1.Problem) bool {
	return slices.ContainsFunc(list, func(q *hostv1.Problem) bool { return proto.Equal(p, q) })
}

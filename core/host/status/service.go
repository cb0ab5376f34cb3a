package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// A Config says whose state is told. Client, Log and Recipes are required.
type Config struct {
	// Client is the host's own.
	Client *clientv3.Client
	// Log is the host's logger.
	Log *slog.Logger
	// Name and Version are the host's.
	Name, Version string
	// Embedded says that the member runs in this process.
	Embedded bool
	// Endpoints are the client URLs of etcd.
	Endpoints []string
	// Recipes returns the host's recipes as they are now, in order of their
	// names. The messages are not changed afterwards, by either side.
	Recipes func() []*hostv1.Recipe
	// Sessions returns how many sessions live in the cluster. Nil: none are told.
	Sessions func() int
	// SessionLimit is how many sessions the host takes. 0: not told.
	SessionLimit int
	// Vitals returns how the embedded member has been lately. Nil: there is none.
	Vitals func() Vitals
	// Certificates returns the host's certificates as they are now. Nil: it has none.
	Certificates func() []Certificate
}

// A Certificate is one with which the host serves or calls.
type Certificate struct {
	// Field is where the configuration names it, and File its file.
	Field, File string
	// Expires is when it is no longer valid.
	Expires time.Time
	// Err says why its file cannot be used as it is now.
	Err error
}

// Service is a host's HostService. It is safe for concurrent use. Make it with
// [New], and end it with Stop.
type Service struct {
	hostv1.UnimplementedHostServiceServer
	cfg     Config
	started time.Time

	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	stopPoll context.CancelFunc // nil: nobody watches
	looked   bool               // the poll has looked, and found the following
	leader   string
	standing []*hostv1.Problem
}

// New returns a service of a host that starts now. It does no I/O.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, started: time.Now(), watchers: make(map[*watcher]struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Stop ends every WatchEvents call, and waits for what the service runs, or for
// ctx.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("host status: %w", context.Cause(ctx))
	}
}

// Status implements HostService.
func (s *Service) Status(ctx context.Context, _ *hostv1.StatusRequest) (*hostv1.StatusResponse, error) {
	look := s.look(ctx)
	recipes := s.cfg.Recipes()
	resp := &hostv1.StatusResponse{
		Name: s.cfg.Name, Version: s.cfg.Version,
		StartedAt: timestamppb.New(s.started), Uptime: durationpb.New(time.Since(s.started).Truncate(time.Millisecond)),
		Etcd: look.etcd, Recipes: recipes, Problems: s.problems(look, recipes),
	}
	if s.cfg.Sessions != nil {
		resp.Sessions = int64(s.cfg.Sessions())
	}
	return resp, nil
}

// ListRecipes implements HostService.
func (s *Service) ListRecipes(context.Context, *hostv1.ListRecipesRequest) (*hostv1.ListRecipesResponse, error) {
	return &hostv1.ListRecipesResponse{Recipes: s.cfg.Recipes()}, nil
}

// ListMembers implements HostService.
func (s *Service) ListMembers(ctx context.Context, _ *hostv1.ListMembersRequest) (*hostv1.ListMembersResponse, error) {
	look := s.look(ctx)
	switch {
	case len(look.etcd.GetMembers()) > 0:
	case look.refused && s.cfg.Client.Username != "": // whoever asks may ask again: an etcd that is busy checks a password for long
		return nil, recipe.Errorf(codes.Unavailable, "no_quorum", "etcd has not let the host in: its login is refused, or still being checked")
	case look.refused:
		return nil, recipe.Errorf(codes.Unauthenticated, "unauthenticated", "etcd asks the host for a login that it does not have")
	default:
		return nil, recipe.Errorf(codes.Unavailable, "no_quorum", "etcd does not answer: %v", look.failed)
	}
	return &hostv1.ListMembersResponse{Members: look.etcd.GetMembers()}, nil
}

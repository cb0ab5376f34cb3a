package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A place is a host with the recipe.
type place struct {
	s        *Suite
	runner   runner
	host     *host.Host
	conn     *grpc.ClientConn
	services map[string]*service // loaded so far
}

// open starts a host with the recipe.
func (s *Suite) open(ctx context.Context, with probing) (*place, error) {
	r, err := s.subject.run(ctx, s, with)
	if err != nil {
		return nil, err
	}
	p := &place{s: s, runner: r}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// hostConfig is the configuration of a host on the suite's etcd.
func (s *Suite) hostConfig() host.Config {
	cfg := host.Config{Name: s.name(), API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: s.etcd.Endpoints()}}
	if len(s.cfg.Config) > 0 {
		cfg.Recipes = map[string]host.RecipeConfig{s.subject.info.Name: {Config: s.cfg.Config}}
	}
	return cfg
}

func (p *place) start(ctx context.Context) error {
	h, err := host.New(p.s.hostConfig(), host.WithRecipe(p.runner.recipe()), host.WithLogger(p.s.log))
	if err != nil {
		return err
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	p.host = h
	p.conn, err = grpc.NewClient(strings.TrimPrefix(h.API(), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	return p.runner.awaitReady(ctx)
}

// stop ends the host as an operator does.
func (p *place) stop(ctx context.Context) error {
	var err error
	if p.host != nil {
		err = p.host.Stop(ctx)
		p.host = nil
	}
	return err
}

// close ends the place and everything that belongs to it. It is idempotent.
func (p *place) close(ctx context.Context) error {
	err := p.stop(ctx)
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
		p.conn = nil
	}
	if p.runner != nil {
		err = errors.Join(err, p.runner.close(ctx))
		p.runner = nil
	}
	return err
}

// crash kills the recipe, and returns when its next instance is there. Where a
// recipe cannot be killed without its host, the host is stopped, and another takes
// its place.
func (p *place) crash(ctx context.Context) error {
	if crash := p.runner.faults().crash; crash != nil {
		if err := crash(ctx); err != nil {
			return err
		}
		return p.runner.awaitReady(ctx)
	}
	if err := p.close(ctx); err != nil {
		return fmt.Errorf("stop the host: %w", err)
	}
	next, err := p.s.open(ctx, probing{})
	if err != nil {
		return fmt.Errorf("the next host: %w", err)
	}
	*p = *next
	return nil
}

// A caller is a session that was opened through a host.
type caller struct {
	id    string
	lease clientv3.LeaseID
}

// sessionTTL outlasts every check, so that no check has to renew.
const sessionTTL = 30 * time.Minute

// caller opens a session.
func (p *place) caller(ctx context.Context, owner string) (caller, error) {
	resp, err := sessionv1.NewSessionServiceClient(p.conn).Open(ctx, &sessionv1.OpenRequest{Ttl: durationpb.New(sessionTTL), Owner: owner})
	if err != nil {
		return caller{}, fmt.Errorf("open a session: %w", err)
	}
	id := resp.GetSessionId()
	// Whose lease it is, is in the host's own record.
	got, err := p.s.store.client.Get(ctx, keyspace.SessionKey(recipe.DefaultNamespace, id))
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
		return caller{}, fmt.Errorf("the session's record: %d keys, %w", len(got.Kvs), err)
	}
	return caller{id, clientv3.LeaseID(got.Kvs[0].Lease)}, nil
}

// end closes the session, and with it all that it owns.
func (c caller) end(ctx context.Context, p *place) error {
	_, err := sessionv1.NewSessionServiceClient(p.conn).Close(ctx, &sessionv1.CloseRequest{SessionId: c.id})
	return err
}

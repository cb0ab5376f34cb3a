package discovery

import (
	"context"
	"encoding/base64"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// A request is about one service.
type request interface {
	GetNamespace() string
	GetName() string
}

// named checks the service that a request is about, and returns its namespace.
func named(ctx context.Context, req request) (namespace string, err error) {
	if namespace, err = recipe.Namespace(ctx, req.GetNamespace()); err != nil {
		return "", err
	}
	if err := keyspace.CheckName("name", req.GetName()); err != nil {
		return "", invalid("name", "%s", strings.TrimPrefix(err.Error(), "name: "))
	}
	return namespace, nil
}

// Resolve implements the method of the DiscoveryService. It reads etcd, so that
// whoever has just registered is seen.
func (i *instance) Resolve(ctx context.Context, req *discoveryv1.ResolveRequest) (*discoveryv1.ResolveResponse, error) {
	namespace, err := named(ctx, req)
	if err != nil {
		return nil, err
	}
	s, err := bounded(ctx, reading, func(ctx context.Context) (*discovery.Snapshot, error) {
		return discovery.Lookup(ctx, i.env.Client, namespace, req.GetName())
	})
	if err != nil {
		return nil, err
	}
	return &discoveryv1.ResolveResponse{Name: s.Service, Instances: messages(s.Instances), Others: messages(s.Others), Revision: s.Revision, Stale: s.Stale}, nil
}

// Watch implements the method of the DiscoveryService.
func (i *instance) Watch(req *discoveryv1.WatchRequest, stream discoveryv1.DiscoveryService_WatchServer) error {
	namespace, err := named(stream.Context(), req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(i.ctx, func() { cancel(context.Cause(i.ctx)) })()
	// Resolvers of one client share their watches, so each stream has its own.
	r := discovery.NewResolver(i.env.Client, discovery.WithNamespace(namespace), discovery.WithLogger(i.env.Log))
	defer func() { _ = r.Close() }()
	for s, err := range r.Watch(ctx, req.GetName()) {
		if err != nil {
			return status(err)
		}
		msg := &discoveryv1.WatchResponse{Name: s.Service, Instances: messages(s.Instances), Others: messages(s.Others), Revision: s.Revision,
			Stale: s.Stale, Kept: int32(s.Kept)} //nolint:gosec // of a list in memory
		if err := stream.Send(msg); err != nil {
			return err
		}
	}
	return nil
}

// List implements the method of the DiscoveryService.
func (i *instance) List(ctx context.Context, req *discoveryv1.ListRequest) (*discoveryv1.ListResponse, error) {
	namespace, err := recipe.Namespace(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	after, size, err := page(req)
	if err != nil {
		return nil, err
	}
	all, err := bounded(ctx, reading, func(ctx context.Context) ([]discovery.Service, error) {
		return discovery.Services(ctx, i.env.Client, namespace)
	})
	if err != nil {
		return nil, err
	}
	resp := &discoveryv1.ListResponse{}
	for _, s := range all {
		if !strings.HasPrefix(s.Name, req.GetPrefix()) || after != "" && keyspace.Escape(s.Name) <= keyspace.Escape(after) {
			continue
		}
		if len(resp.GetServices()) == size {
			last := resp.GetServices()[size-1].GetName()
			resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			break
		}
		resp.Services = append(resp.Services, &discoveryv1.Service{Name: s.Name, Instances: int32(s.Instances), Usable: int32(s.Usable)}) //nolint:gosec // of a list in memory
	}
	return resp, nil
}

// page returns the name after which a page begins, and its size.
func page(req *discoveryv1.ListRequest) (after string, size int, err error) {
	if err := keyspace.CheckText("prefix", req.GetPrefix(), keyspace.MaxName); err != nil {
		return "", 0, invalid("prefix", "%s", strings.TrimPrefix(err.Error(), "prefix: "))
	}
	if size = int(req.GetPageSize()); size < 0 {
		return "", 0, invalid("page_size", "%d is negative", size)
	}
	if size == 0 {
		size = defaultPage
	}
	if token := req.GetPageToken(); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || keyspace.CheckName("name", string(b)) != nil {
			return "", 0, invalid("page_token", "is not one that List returned")
		}
		after = string(b)
	}
	return after, min(size, maxPage), nil
}

func messages(all []discovery.Instance) []*discoveryv1.Instance {
	out := make([]*discoveryv1.Instance, 0, len(all))
	for k := range all {
		i := &all[k]
		m := &discoveryv1.Instance{Service: i.Service, Id: i.ID, Addr: i.Addr, Metadata: i.Metadata, Tags: i.Tags,
			Weight: int32(i.Weight), //nolint:gosec // at most 65,535
			Zone:   i.Zone, Version: i.Version, State: string(i.State), Token: int64(i.Token), Owner: i.Owner}
		if !i.Since.IsZero() {
			m.Since = timestamppb.New(i.Since)
		}
		m.Checks, m.Health = checkMessages(i.Checks), healthMessage(i.Health)
		out = append(out, m)
	}
	return out
}

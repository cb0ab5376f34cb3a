package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/recipe"
)

const (
	joinLook   = 10 * time.Second       // at one address; a host may ask etcd first, and that may want a password
	joinPause  = 500 * time.Millisecond // between two rounds
	joinReport = 10 * time.Second       // how often the log says that nobody answers
	// withdrawBudget is for giving back a place that is not taken.
	withdrawBudget = 2 * time.Second
)

// startMember starts the embedded member. One that is configured to join, and has
// not run yet, is admitted to the cluster first.
func startMember(ctx context.Context, cfg Config, member embedded.Config, log *slog.Logger) (*embedded.Member, error) {
	if len(cfg.Etcd.Join) == 0 {
		return embedded.Start(ctx, member)
	}
	member.Join = true
	if embedded.HasData(member.DataDir) {
		return startPromoted(ctx, cfg.Etcd, member, log)
	}
	c, err := joinClient(ctx, cfg.Etcd, member, log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if member, err = embedded.Admit(ctx, c, member); err != nil {
		return nil, fmt.Errorf("etcd.join: %w", err)
	}
	m, err := startPromoted(ctx, cfg.Etcd, member, log)
	if err != nil && ctx.Err() == nil && !embedded.HasData(member.DataDir) {
		// Such as a port that is taken, which is not soon free. Who was interrupted
		// goes on with the place.
		ctx, cancel := context.WithTimeout(ctx, withdrawBudget)
		defer cancel()
		if err := embedded.Withdraw(ctx, c, member); err != nil {
			log.Warn("the cluster counts a learner that has not started; a join on the same peer address goes on with it", "error", err)
		}
	}
	return m, err
}

// startPromoted starts a member that becomes a voter meanwhile: where etcd wants to
// know who asks for that, a client does.
func startPromoted(ctx context.Context, e Etcd, member embedded.Config, log *slog.Logger) (*embedded.Member, error) {
	if member.Username == "" {
		return embedded.Start(ctx, member)
	}
	starting, cancel := context.WithCancel(ctx)
	promoted := make(chan struct{})
	go func() {
		defer close(promoted)
		if err := promote(starting, e, member, log); err != nil && starting.Err() == nil {
			log.Warn("if this member has no vote yet, give it one: conclave member promote", "error", err)
		}
	}()
	defer func() {
		cancel()
		<-promoted
	}()
	return embedded.Start(ctx, member)
}

// promote waits for a client that etcd lets in, for which the member itself may be
// needed, and has it give the member its vote.
func promote(ctx context.Context, e Etcd, member embedded.Config, log *slog.Logger) error {
	tick := time.NewTicker(joinPause)
	defer tick.Stop()
	c, err := joinClient(ctx, e, member, log)
	for ; err != nil; c, err = joinClient(ctx, e, member, log) {
		if answered(err) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { _ = c.Close() }()
	return embedded.Promote(ctx, c, member)
}

// joinClient returns a client of the cluster at one of the addresses, when one answers.
// It ends with ctx.
func joinClient(ctx context.Context, e Etcd, member embedded.Config, log *slog.Logger) (*clientv3.Client, error) {
	secret, err := e.joinTLS(log)
	if err != nil {
		return nil, err
	}
	endpoints, err := joinEndpoints(ctx, e.Join, secret, log)
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: endpoints, TLS: secret, Username: member.Username, Password: member.Password,
		DialTimeout: dialTimeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		Logger: zap.NewNop(), // what fails is told by the call
	})
	if err != nil {
		return nil, fmt.Errorf("etcd.join: %s: %w", strings.Join(endpoints, ", "), err)
	}
	return c, nil
}

// joinTLS is for the addresses of Join that begin with https.
func (e Etcd) joinTLS(log *slog.Logger) (*tls.Config, error) {
	switch {
	case e.TLS.enabled():
		return e.TLS.client(log)
	case e.ClientTLS.enabled():
		return e.ClientTLS.client(log)
	case slices.ContainsFunc(e.Join, func(u string) bool { return strings.HasPrefix(u, "https://") }):
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	return nil, nil //nolint:nilnil // plaintext is what was asked for
}

// errWhoCalls says that a host tells its members to callers that it knows alone.
var errWhoCalls = errors.New("the host asks who calls")

// joinEndpoints returns the client URLs of the cluster that the addresses lead to.
// It waits until one of them answers, and says in the log that it does.
func joinEndpoints(ctx context.Context, urls []string, secret *tls.Config, log *slog.Logger) ([]string, error) {
	tick := time.NewTicker(joinPause)
	defer tick.Stop()
	var told time.Time
	for {
		found, errs := make([][]string, len(urls)), make([]error, len(urls))
		var all sync.WaitGroup
		for i, u := range urls {
			all.Go(func() { found[i], errs[i] = clientURLs(ctx, u, secret) })
		}
		all.Wait()
		if endpoints := slices.Concat(found...); len(endpoints) > 0 {
			slices.Sort(endpoints)
			return slices.Compact(endpoints), nil
		}
		err := errors.Join(errs...)
		if !slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, errWhoCalls) }) {
			return nil, configError("etcd.join", "%s", oneLine(err)) // which no waiting changes
		}
		if time.Since(told) > joinReport {
			told = time.Now()
			log.Warn("waiting for the cluster to join", "error", oneLine(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("etcd.join: %w: %w", embedded.ErrNoQuorum, errors.Join(context.Cause(ctx), err))
		}
	}
}

// clientURLs asks an address, which may be a host's API or etcd's own, where etcd's
// clients are answered.
func clientURLs(ctx context.Context, address string, secret *tls.Config) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLook)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		creds = credentials.NewTLS(secret)
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	_, err = pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{})
	switch code := status.Code(err); {
	case code == codes.Unavailable, code == codes.DeadlineExceeded:
		return nil, fmt.Errorf("%s: %s", address, status.Convert(err).Message())
	case code != codes.Unimplemented: // etcd's, also if it is a refusal
		return []string{address}, nil
	}
	list, err := hostv1.NewHostServiceClient(conn).ListMembers(ctx, &hostv1.ListMembersRequest{})
	if status.Code(err) == codes.Unauthenticated && recipe.Reason(err) != "" {
		return nil, fmt.Errorf("%s: %w: name the client URL of an etcd member instead", address, errWhoCalls)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s", address, status.Convert(err).Message())
	}
	return reachable(u, list.GetMembers())
}

// reachable are the client URLs of the members that can be reached from where the
// host itself was reached.
func reachable(from *url.URL, members []*hostv1.Member) ([]string, error) {
	var all []string
	for _, m := range members {
		for _, c := range m.GetClientUrls() {
			if u, err := url.Parse(c); err == nil && (isLoopback(from.Hostname()) || !isLoopback(u.Hostname())) {
				all = append(all, c)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: the members there tell no address for etcd's clients that others can reach; set etcd.listen_client and etcd.advertise_client on them", from)
	}
	return all, nil
}

package importer

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// zkSession is how long the servers keep the session of an import that went away.
const zkSession = 10 * time.Second

// zkOwn is what ZooKeeper keeps for itself.
const zkOwn = "/zookeeper"

// A ZooKeeper says what to read.
type ZooKeeper struct {
	Servers []string // host:port
	Root    string   // the node to begin at; "/" for all
	// Auth is user:password for the digest scheme; empty: none.
	Auth string
	// Nodes that have children, and no data, are directories, and are left out unless Directories is set.
	Directories bool
}

// FromZooKeeper reads the nodes of a ZooKeeper, node by node: what changes meanwhile may come old or new. Ephemeral nodes are left out, for they
// stand for sessions that etcd does not know.
func FromZooKeeper(ctx context.Context, z ZooKeeper) (Found, error) {
	c, _, err := zk.Connect(z.Servers, zkSession, zk.WithLogger(silent{}), zk.WithLogInfo(false))
	if err != nil {
		return Found{}, fmt.Errorf("zookeeper: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, c.Close) // its calls take no context
	defer stop()
	if z.Auth != "" {
		if err := c.AddAuth("digest", []byte(z.Auth)); err != nil {
			return Found{}, z.failed(ctx, "log in", err)
		}
	}
	r := zkReader{zk: z, conn: c}
	err = r.walk(ctx, path.Join("/", z.Root))
	r.found.note(r.ephemeral, "are ephemeral: they end with the session of their owner")
	r.found.note(r.directories, "have no data and children: etcd 3 needs no directories")
	r.found.note(r.guarded, "have access lists, which have no counterpart")
	return r.found, err
}

type zkReader struct {
	zk                              ZooKeeper
	conn                            *zk.Conn
	found                           Found
	ephemeral, directories, guarded int
}

// walk reads a node and what is below it.
func (r *zkReader) walk(ctx context.Context, at string) error {
	if at == zkOwn {
		return nil
	}
	data, st, err := r.conn.Get(at)
	if errors.Is(err, zk.ErrNoNode) && at != path.Join("/", r.zk.Root) {
		return nil // gone meanwhile
	}
	if err != nil {
		return r.zk.failed(ctx, at, err)
	}
	switch {
	case st.EphemeralOwner != 0:
		r.ephemeral++
		return nil // it has no children
	case at == "/" && len(data) == 0:
	case st.NumChildren > 0 && len(data) == 0 && !r.zk.Directories:
		r.directories++
	default:
		if err := r.take(ctx, at, data); err != nil {
			return err
		}
	}
	children, _, err := r.conn.Children(at)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return r.zk.failed(ctx, at, err)
	}
	slices.Sort(children)
	for _, name := range children {
		if err := r.walk(ctx, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *zkReader) take(ctx context.Context, at string, data []byte) error {
	acl, _, err := r.conn.GetACL(at)
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return nil
	case err != nil && !errors.Is(err, zk.ErrNoAuth):
		return r.zk.failed(ctx, at, err)
	case err != nil || len(acl) != 1 || acl[0].Scheme != "world":
		r.guarded++
	}
	r.found.Items = append(r.found.Items, Item{From: at, Key: at, Value: data})
	return nil
}

// failed says why a call failed: ending the connection is how a context ends one.
func (z ZooKeeper) failed(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, zk.ErrNoServer):
		what = strings.Join(z.Servers, ", ")
	}
	return fmt.Errorf("zookeeper: %s: %w", what, err)
}

type silent struct{}

// Printf implements zk.Logger: what fails is told by the calls.
func (silent) Printf(string, ...any) {}

package workqueue

import (
	"context"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// first returns the first key of a read in a result, or nil.
func first(r commit.Result, i int) *mvccpb.KeyValue {
	if kvs := r.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// advance returns what lets the next item of a group in, and the comparisons
// under which it is the next.
func (k keys) advance(ctx context.Context, e *engine.Engine, group string) ([]clientv3.Cmp, []clientv3.Op, error) {
	prefix := k.next(group)
	for {
		next, err := k.nextOf(ctx, e, prefix)
		if err != nil {
			return nil, nil, err
		}
		if next == nil {
			return []clientv3.Cmp{nothingUnder(prefix)}, []clientv3.Op{clientv3.OpDelete(k.busy(group))}, nil
		}
		id, key := idOf(string(next.Key)), string(next.Key)
		rec, err := decode(next.Value)
		if err != nil { // nobody's item, and in everybody's way
			if _, err := e.Do(ctx, commit.Txn{Scope: []string{key}, If: []clientv3.Cmp{unchanged(key, next.ModRevision)},
				Then: []clientv3.Op{clientv3.OpDelete(key)}}); err != nil {
				return nil, nil, err
			}
			continue
		}
		rec.Order = next.CreateRevision
		return []clientv3.Cmp{unchanged(key, next.ModRevision)},
			[]clientv3.Op{clientv3.OpDelete(key), clientv3.OpPut(k.busy(group), id), k.back(id, rec, 0)}, nil
	}
}

// nextOf reads the first item that waits in a group: the oldest one of the first
// segment.
func (k keys) nextOf(ctx context.Context, e *engine.Engine, prefix string) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := e.Client().Get(ctx, prefix, clientv3.WithRange(end(prefix)), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	key := string(resp.Kvs[0].Key)
	segment := key[:strings.LastIndexByte(key, '/')+1]
	resp, err = e.Client().Get(ctx, segment, clientv3.WithRange(end(segment)))
	if err != nil {
		return nil, err
	}
	var oldest *mvccpb.KeyValue
	for _, kv := range resp.Kvs { // in order of key
		if oldest == nil || kv.CreateRevision < oldest.CreateRevision {
			oldest = kv
		}
	}
	if oldest == nil { // it was taken between the two reads
		return k.nextOf(ctx, e, prefix)
	}
	return oldest, nil
}

package discovery

import (
	"encoding/json"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// besides is what goes with a record in the same transaction: the definition of
// its checks, and the same instance in etcd's own layout.
type besides struct {
	ops  []clientv3.Op
	says string // the same for as long as nothing of it need be written
}

// A beside makes of a record what goes with it, given whether a definition stands.
type beside func(want record, lease clientv3.LeaseID, defined bool) besides

// A definition is what a host has to know of an instance to check it.
type definition struct {
	V      int     `json:"v"`
	Reg    string  `json:"reg"`
	Checks []check `json:"checks"`
}

// definitions returns what goes with the record of an instance, without a twin.
func definitions(namespace, service, id string) beside {
	key := checkKey(namespace, service, id)
	return func(want record, lease clientv3.LeaseID, defined bool) besides {
		switch {
		case len(want.Checks) > 0:
			text := text(definition{V: 1, Reg: want.Reg, Checks: want.Checks})
			return besides{[]clientv3.Op{clientv3.OpPut(key, text, clientv3.WithLease(lease))}, text}
		case defined:
			return besides{ops: []clientv3.Op{clientv3.OpDelete(key)}}
		}
		return besides{}
	}
}

// text is the JSON of a value that is made of texts and numbers.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("discovery: texts and numbers: " + err.Error())
	}
	return string(b)
}

// A twin is the same instance in the layout of etcd's own client/v3/naming.
type twin struct {
	Op       int               `json:"Op"`
	Addr     string            `json:"Addr"`
	Metadata map[string]string `json:"Metadata"`
}

// keys is how many keys the registration began with on its lease.
func (g *Registration) keys() int { return g.slots }

// twin returns the key in etcd's layout, "" if there is none.
func (g *Registration) twin() string {
	if g.r.opts.naming == "" {
		return ""
	}
	return g.r.opts.naming + g.service + "/" + g.id
}

// beside is what goes with a put of want.
func (g *Registration) beside(want record, lease clientv3.LeaseID, defined bool) besides {
	b := definitions(g.r.s.Namespace(), g.service, g.id)(want, lease, defined)
	if g.twin() == "" {
		return b
	}
	if !want.effective().Usable() {
		return besides{append(b.ops, clientv3.OpDelete(g.twin())), b.says + "-"}
	}
	text := text(twin{Addr: want.Addr, Metadata: want.Metadata})
	return besides{append(b.ops, clientv3.OpPut(g.twin(), text, clientv3.WithLease(lease))), b.says + text}
}

// goneBeside is what goes with the end of the record.
func (g *Registration) goneBeside(defined bool) []clientv3.Op {
	var ops []clientv3.Op
	if defined {
		ops = append(ops, clientv3.OpDelete(g.define))
	}
	if g.twin() != "" {
		ops = append(ops, clientv3.OpDelete(g.twin()))
	}
	return ops
}

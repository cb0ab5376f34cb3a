// Command fencing-sql adds to a balance in a SQL database, under a lock that the
// database checks: it keeps the largest token that it has seen and refuses a
// smaller one, however late it comes.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	file := flag.String("db", "ledger.db", "the database")
	account := flag.String("account", "savings", "whose balance")
	amount := flag.Int64("add", 1, "what to add")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, strings.Split(*endpoints, ","), *file, *account, *amount); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoints []string, file, account string, amount int64) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	db, err := sql.Open("sqlite", file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	ledger, err := OpenLedger(ctx, db)
	if err != nil {
		return err
	}
	if err := ledger.Open(ctx, account); err != nil {
		return err
	}
	session, err := core.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer session.Close()
	return add(ctx, session, ledger, account, amount)
}

// add reads, computes and writes back. The lock keeps two of them from doing
// that at once; the token keeps a paused one from writing what it read long ago.
func add(ctx context.Context, session *core.Session, ledger *Ledger, account string, amount int64) error {
	return lock.NewMutex(session, "ledger/"+account).Do(ctx, func(ctx context.Context) error {
		balance, err := ledger.Balance(ctx, account)
		if err != nil {
			return err
		}
		return ledger.SetBalance(ctx, account, balance+amount)
	})
}

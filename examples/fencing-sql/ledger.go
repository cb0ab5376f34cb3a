package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/core"
)

// Errors of a ledger.
var (
	// ErrStale: the write came from an owner whose time was over: a later one
	// has written already. Nothing was changed.
	ErrStale = errors.New("stale token")
	// ErrNotOwner: the context carries no token, so the caller holds no lock.
	ErrNotOwner = errors.New("no lock is held")
)

// A Ledger keeps balances in a SQL database. It takes writes from the owner of
// the lock only: beside each balance stands the largest token that wrote it.
type Ledger struct{ db *sql.DB }

// OpenLedger makes the table if it does not exist.
func OpenLedger(ctx context.Context, db *sql.DB) (*Ledger, error) {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS accounts (
			name    TEXT PRIMARY KEY,
			balance INTEGER NOT NULL DEFAULT 0,
			token   INTEGER NOT NULL DEFAULT 0
		)`)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &Ledger{db}, nil
}

// Open adds an account with a balance of zero, if there is none of that name.
func (l *Ledger) Open(ctx context.Context, account string) error {
	_, err := l.db.ExecContext(ctx, `INSERT INTO accounts (name) VALUES (?) ON CONFLICT DO NOTHING`, account)
	return err
}

// Balance reads a balance.
func (l *Ledger) Balance(ctx context.Context, account string) (balance int64, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT balance FROM accounts WHERE name = ?`, account).Scan(&balance)
	return balance, err
}

// SetBalance writes a balance with the token of the lock that ctx comes from.
// The check and the write are one statement, so nothing can come in between.
//
// It returns [ErrNotOwner] without a lock, and [ErrStale] if a later owner has
// written, or if there is no such account.
func (l *Ledger) SetBalance(ctx context.Context, account string, balance int64) error {
	// snippet:sql
	token, ok := core.TokenFrom(ctx)
	if !ok {
		return ErrNotOwner
	}
	result, err := l.db.ExecContext(ctx,
		`UPDATE accounts SET balance = ?, token = ? WHERE name = ? AND token <= ?`,
		balance, int64(token), account, int64(token))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("account %q: %w", account, ErrStale)
	// end
}

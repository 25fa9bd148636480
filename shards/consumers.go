package shards

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Consumer is a registered consumer of a stream: the name under which fan-out subscriptions are
// taken. It is metadata c/STREAMID/NAME and has no position of its own; clients keep theirs.
//
// A consumer is CREATING for Timing.Create after it was registered, then ACTIVE, and DELETING for
// Timing.Delete after it was deregistered; then it is gone. The clock alone moves it on.
type Consumer struct {
	Name      string            `json:"name"`
	CreatedMs int64             `json:"createdMs"`
	DeletedMs int64             `json:"deletedMs,omitempty"` // when it was deregistered
	Tags      map[string]string `json:"tags,omitempty"`
	Policy    string            `json:"policy,omitempty"` // a resource policy, as it was given
}

// ARN is the consumer's ARN: registered again under the same name, it has another.
func (c *Consumer) ARN(s *Stream) string {
	return fmt.Sprintf("%s/consumer/%s:%d", s.ARN(), c.Name, c.CreatedMs/1000)
}

// ConsumerState is a consumer's state.
func (s *Stream) ConsumerState(c *Consumer) State {
	switch {
	case c.DeletedMs != 0:
		return Deleting
	case time.Since(time.UnixMilli(c.CreatedMs)) < s.owner.options.Timing.Create:
		return Creating
	}
	return Active
}

// isGone reports whether nothing but the metadata is left of a consumer.
func (s *Stream) isGone(c *Consumer) bool {
	return c.DeletedMs != 0 && time.Since(time.UnixMilli(c.DeletedMs)) >= s.owner.options.Timing.Delete
}

const consumerPrefix = "c/"

func (s *Stream) consumerKeys() string { return fmt.Sprintf("%s%016x/", consumerPrefix, s.ID) }

// RegisterConsumer makes a consumer. A name that is taken is errs.InUse. admit, if it is not nil, may
// refuse, seeing the stream's other consumers; nobody else registers meanwhile.
func (s *Stream) RegisterConsumer(ctx context.Context, name string, tags map[string]string, admit func(others []*Consumer) error) (*Consumer, error) {
	s.update.Lock()
	defer s.update.Unlock()
	if !s.usable() {
		return nil, s.notFound()
	}
	old, rev, err := s.lookUpConsumer(ctx, name)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, errs.New(errs.InUse, "Consumer %s under stream %s, account %s already exists.", name, s.Name, s.Account)
	}
	if admit != nil {
		others, err := s.Consumers(ctx)
		if err != nil {
			return nil, err
		}
		if err := admit(others); err != nil {
			return nil, err
		}
	}
	c := &Consumer{Name: name, CreatedMs: time.Now().UnixMilli(), Tags: tags}
	return c, s.storeConsumer(ctx, c, rev)
}

// lookUpConsumer finds a consumer, nil if there is none, and the revision of what metadata have
// under the name.
func (s *Stream) lookUpConsumer(ctx context.Context, name string) (*Consumer, Rev, error) {
	v, rev, err := s.owner.store.Meta().Get(ctx, s.consumerKeys()+name)
	if err != nil || rev == 0 {
		return nil, rev, err
	}
	c := new(Consumer)
	if err := decodeMeta(v, c); err != nil || s.isGone(c) {
		return nil, rev, err
	}
	return c, rev, nil
}

func (s *Stream) storeConsumer(ctx context.Context, c *Consumer, over Rev) error {
	v, err := encodeMeta(c)
	if err != nil {
		return err
	}
	key := s.consumerKeys() + c.Name
	ok, err := s.owner.store.Meta().Txn(ctx, []Cmp{{key, over}}, []Op{{Key: key, Value: v}})
	if err == nil && !ok {
		err = errs.New(errs.Conflict, "consumer %s of stream %s was changed by somebody else", c.Name, s.Name)
	}
	return err
}

// Consumer finds a consumer by name.
func (s *Stream) Consumer(ctx context.Context, name string) (*Consumer, error) {
	c, _, err := s.lookUpConsumer(ctx, name)
	if err == nil && c == nil {
		err = s.noConsumer(name)
	}
	return c, err
}

func (s *Stream) noConsumer(name string) error {
	return errs.New(errs.NotFound, "Consumer %s under stream %s, account %s not found.", name, s.Name, s.Account)
}

// Consumers lists the stream's consumers by name.
func (s *Stream) Consumers(ctx context.Context) ([]*Consumer, error) {
	var out []*Consumer
	for kv, err := range s.owner.store.Meta().Scan(ctx, s.consumerKeys()) {
		if err != nil {
			return nil, err
		}
		c := new(Consumer)
		if err := decodeMeta(kv.Value, c); err != nil {
			return nil, err
		}
		if !s.isGone(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Consumer) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// UpdateConsumer changes a consumer's tags or policy, durably. change gets a copy; its error is
// UpdateConsumer's, and nothing changes then. A consumer that was registered anew since c was found
// is not found.
func (s *Stream) UpdateConsumer(ctx context.Context, c *Consumer, change func(*Consumer) error) error {
	s.update.Lock()
	defer s.update.Unlock()
	now, rev, err := s.lookUpConsumer(ctx, c.Name)
	if err != nil {
		return err
	}
	if now == nil || now.CreatedMs != c.CreatedMs {
		return s.noConsumer(c.Name)
	}
	if now.Tags = maps.Clone(now.Tags); now.Tags == nil {
		now.Tags = make(map[string]string)
	}
	if err := change(now); err != nil {
		return err
	}
	return s.storeConsumer(ctx, now, rev)
}

// DeregisterConsumer removes a consumer.
func (s *Stream) DeregisterConsumer(ctx context.Context, c *Consumer) error {
	if s.owner.options.Timing.Delete > 0 {
		return s.UpdateConsumer(ctx, c, func(c *Consumer) error {
			c.DeletedMs = time.Now().UnixMilli()
			return nil
		})
	}
	s.update.Lock()
	defer s.update.Unlock()
	_, err := s.owner.store.Meta().Txn(ctx, nil, []Op{{Key: s.consumerKeys() + c.Name, Delete: true}})
	return err
}

// Watch sends on ch, without ever blocking, after records of the shard became readable or it was
// deleted. The caller calls stop when done.
func (s *Stream) Watch(sh *Shard, ch chan<- struct{}) (stop func()) {
	return s.owner.store.Log().Notify([]ShardID{sh.ID}, ch)
}

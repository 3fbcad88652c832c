package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/proto"
)

// Resource is one resource, or the name of one that goes.
type Resource struct {
	Type, Name string
	// Nil where it goes.
	Message proto.Message
	// What it is told to be called, too.
	Aliases []string
	// By what it is found besides.
	FoundBy  []string
	BodyType string
}

func (resource *Resource) names() []string { return slices.Concat(resource.Aliases, resource.FoundBy) }

// Store is what is served: a LinearCache of go-control-plane's per type, made when the type is first spoken of. These do the
// protocol; here is only what they have no word for, aliases and bodies of another type.
type Store struct {
	mutex  sync.Mutex
	caches map[string]*cache.LinearCache
	// By type and name.
	others map[[2]string]Resource
	// Types that are not spoken of.
	ignored map[string]struct{}
	// By type and alias: names.
	aliases map[[2]string]map[string]struct{}
}

var _ cache.Cache = &Store{}

// NewStore has nothing.
func NewStore() *Store {
	return &Store{
		caches:  map[string]*cache.LinearCache{},
		others:  map[[2]string]Resource{},
		aliases: map[[2]string]map[string]struct{}{},
	}
}

// Change takes in changes; those of one type at once, the types in the order in which they are first named.
func (store *Store) Change(changes []Resource) error {
	var order []string
	byType := map[string][]Resource{}
	for _, change := range changes {
		if _, known := byType[change.Type]; !known {
			order = append(order, change.Type)
		}
		byType[change.Type] = append(byType[change.Type], change)
	}
	for _, typeURL := range order {
		set, gone := map[string]types.Resource{}, []string{}
		for _, change := range byType[typeURL] {
			// What waits for an alias is woken by a removal under that name, which is no resource's.
			gone = append(gone, store.name(change)...)
			if change.Message == nil {
				delete(set, change.Name)
				gone = append(gone, change.Name)
			} else {
				set[change.Name] = change.Message
				gone = slices.DeleteFunc(gone, func(name string) bool { return name == change.Name })
			}
		}
		if err := store.of(typeURL).UpdateResources(set, gone); err != nil {
			return err
		}
	}
	return nil
}

// Ignore leaves what is asked about these types unanswered from now on, and about no others. What was asked meanwhile stays so
// until it is asked anew.
func (store *Store) Ignore(types []string) {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	store.ignored = map[string]struct{}{}
	for _, typeURL := range types {
		store.ignored[typeURL] = struct{}{}
	}
}

func (store *Store) ignores(typeURL string) bool {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	_, ignored := store.ignored[typeURL]
	return ignored
}

// name takes in what a resource is called beside its name; the aliases that are new.
func (store *Store) name(resource Resource) []string {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	key := [2]string{resource.Type, resource.Name}
	known := store.others[key]
	for _, alias := range known.names() {
		delete(store.aliases[[2]string{resource.Type, alias}], resource.Name)
	}
	if resource.Message == nil {
		delete(store.others, key)
		return nil
	}
	store.others[key] = resource
	for _, alias := range resource.names() {
		named := [2]string{resource.Type, alias}
		if store.aliases[named] == nil {
			store.aliases[named] = map[string]struct{}{}
		}
		store.aliases[named][resource.Name] = struct{}{}
	}
	return resource.names()
}

// Dress writes aliases and types of bodies into a response that is about to be sent.
func (store *Store) Dress(response *discovery.DeltaDiscoveryResponse) {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	for _, resource := range response.GetResources() {
		other := store.others[[2]string{response.GetTypeUrl(), resource.GetName()}]
		resource.Aliases = other.Aliases
		if other.BodyType != "" {
			resource.Resource.TypeUrl = other.BodyType
		}
	}
}

// CreateWatch is of the protocol that sends the state of the world, and has no aliases.
func (store *Store) CreateWatch(
	request *cache.Request, subscription cache.Subscription, responses chan cache.Response,
) (func(), error) {
	if store.ignores(request.GetTypeUrl()) {
		return func() {}, nil
	}
	return store.of(request.GetTypeUrl()).CreateWatch(request, subscription, responses)
}

// CreateDeltaWatch is of the protocol that sends deltas.
func (store *Store) CreateDeltaWatch(
	request *cache.DeltaRequest, subscription cache.Subscription, responses chan cache.DeltaResponse,
) (func(), error) {
	if store.ignores(request.GetTypeUrl()) {
		return func() {}, nil
	}
	if !subscription.IsWildcard() {
		subscription = &aliased{Subscription: subscription, store: store, typeURL: request.GetTypeUrl()}
	}
	return store.of(request.GetTypeUrl()).CreateDeltaWatch(request, subscription, responses)
}

// Fetch is of the protocol without streams, which nobody speaks here.
func (store *Store) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errors.New("only streams are served")
}

func (store *Store) of(typeURL string) *cache.LinearCache {
	store.mutex.Lock()
	defer store.mutex.Unlock()
	found, ok := store.caches[typeURL]
	if !ok {
		found = cache.NewLinearCache(typeURL)
		store.caches[typeURL] = found
	}
	return found
}

// aliased is a subscription to names and to what they are aliases of. It only grows: the cache goes through it when it
// begins to watch and when it ends, and has to find then what it found before.
type aliased struct {
	cache.Subscription
	store   *Store
	typeURL string
	names   map[string]struct{}
}

func (subscription *aliased) SubscribedResources() map[string]struct{} {
	asked := subscription.Subscription.SubscribedResources()
	if subscription.names == nil {
		subscription.names = maps.Clone(asked)
	}
	subscription.store.mutex.Lock()
	defer subscription.store.mutex.Unlock()
	for name := range asked {
		maps.Copy(subscription.names, subscription.store.aliases[[2]string{subscription.typeURL, name}])
	}
	return subscription.names
}

//! The truth behind the demo lake: what the shop sells, who its customers are, and what each of them does.
//!
//! Nothing here knows a column or a file. [`Shop::simulate`] gives one customer's whole history as a pure function of the
//! seed and the customer's number, so a lake of any size is made one customer at a time.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Gamma, LogNormal, Poisson};
use rand_pcg::Pcg64Mcg;

/// Months of history: January 2024 to December 2025.
pub(super) const MONTHS: usize = 24;
/// 2024-01-01, in days since 1970-01-01.
pub(super) const FIRST_DAY: i32 = 19_723;
/// 2026-01-01: the lake ends before it.
pub(super) const END_DAY: i32 = FIRST_DAY + 731;
/// 2025-10-03: who orders nothing from here to the end has churned.
pub(super) const CUTOFF_DAY: i32 = END_DAY - 90;

const DAY_SECONDS: i64 = 86_400;
const MONTH_LENGTHS: [i32; MONTHS] = [
    31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31,
];
/// How many orders a month brings, against the average one: quiet summers, busy ends of the year.
const SEASON: [f64; 12] = [0.90, 0.88, 0.95, 0.97, 1.00, 0.95, 0.90, 0.90, 1.00, 1.02, 1.20, 1.33];

/// The first day of month `month`, counted from January 2024, in days since 1970-01-01.
pub(super) fn month_start(month: usize) -> i32 {
    FIRST_DAY + MONTH_LENGTHS[..month.min(MONTHS)].iter().sum::<i32>()
}

/// `2024-01` for month 0.
pub(super) fn month_name(month: usize) -> String {
    format!("{}-{:02}", 2024 + month / 12, month % 12 + 1)
}

/// A kind of customer: what it does on average. The customers of a kind vary round it.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Share of all customers.
    share: f64,
    /// Orders a month.
    orders: f64,
    /// Lines in a basket.
    lines: f64,
    /// Chance that a line takes the cheaper (negative) or dearer (positive) of two products that both appeal.
    leaning: f64,
    /// Chance that an order uses a discount code.
    discount: f64,
    /// Products looked at in a month without buying.
    views: f64,
    /// Chance that the first order comes with the sign-up.
    first_order: f64,
    /// Chance, as log-odds, of leaving in a month in which all went well.
    leaving: f64,
    /// Chances of bronze, silver and gold in the loyalty programme; the rest are not in it.
    tiers: [f64; 3],
}

pub(super) const KINDS: [Kind; 4] = [
    Kind {
        name: "regular",
        share: 0.27,
        orders: 1.7,
        lines: 2.2,
        leaning: 0.0,
        discount: 0.12,
        views: 1.2,
        first_order: 0.95,
        leaving: -5.8,
        tiers: [0.25, 0.35, 0.25],
    },
    Kind {
        name: "bargain_hunter",
        share: 0.28,
        orders: 0.95,
        lines: 1.6,
        leaning: -0.9,
        discount: 0.75,
        views: 1.5,
        first_order: 0.9,
        leaving: -4.6,
        tiers: [0.45, 0.12, 0.02],
    },
    Kind {
        name: "big_basket",
        share: 0.20,
        orders: 0.50,
        lines: 7.5,
        leaning: 0.5,
        discount: 0.15,
        views: 0.8,
        first_order: 0.95,
        leaving: -4.9,
        tiers: [0.20, 0.30, 0.15],
    },
    Kind {
        name: "window_shopper",
        share: 0.25,
        orders: 0.12,
        lines: 1.2,
        leaning: -0.2,
        discount: 0.3,
        views: 2.0,
        first_order: 0.6,
        leaving: -3.7,
        tiers: [0.15, 0.03, 0.0],
    },
];

/// What the shop sells: a taste group each, with its median price, its nouns and its brands.
pub(super) const CATEGORIES: [(&str, f64, [&str; 10], [&str; 5]); 8] = [
    (
        "Kitchen",
        24.0,
        [
            "Saucepan",
            "Kettle",
            "Mug",
            "Knife",
            "Cutting Board",
            "Bowl",
            "Whisk",
            "Baking Tin",
            "Teapot",
            "Grater",
        ],
        ["Ember", "Hearthly", "Copperleaf", "Nordal", "Basil & Co"],
    ),
    (
        "Garden",
        28.0,
        [
            "Trowel",
            "Planter",
            "Hose",
            "Pruner",
            "Lantern",
            "Bird Feeder",
            "Rake",
            "Bench",
            "Seed Tray",
            "Gloves",
        ],
        ["Fernhill", "Greenway", "Oakum", "Meadowlark", "Terra"],
    ),
    (
        "Books",
        14.0,
        [
            "Novel",
            "Cookbook",
            "Atlas",
            "Biography",
            "Thriller",
            "Poems",
            "Guide",
            "Comic",
            "History",
            "Diary",
        ],
        ["Lamplight", "Harrow Press", "Quill", "Northbank", "Papermoon"],
    ),
    (
        "Toys",
        18.0,
        [
            "Puzzle",
            "Train",
            "Robot",
            "Kite",
            "Doll",
            "Blocks",
            "Board Game",
            "Plush Bear",
            "Yo-yo",
            "Marbles",
        ],
        ["Tumble", "Pipkin", "Brightbox", "Jollo", "Wooden Whale"],
    ),
    (
        "Sport",
        35.0,
        [
            "Yoga Mat",
            "Backpack",
            "Bottle",
            "Dumbbell",
            "Racket",
            "Headlamp",
            "Tent",
            "Jersey",
            "Skipping Rope",
            "Helmet",
        ],
        ["Ridge", "Velo", "Summitline", "Pacer", "Aqualo"],
    ),
    (
        "Beauty",
        16.0,
        [
            "Soap",
            "Hand Cream",
            "Perfume",
            "Shampoo",
            "Face Mask",
            "Lip Balm",
            "Brush Set",
            "Bath Salt",
            "Serum",
            "Candle",
        ],
        ["Lumen", "Petal", "Saltwater", "Olivine", "Rosehip"],
    ),
    (
        "Electronics",
        60.0,
        [
            "Headphones",
            "Speaker",
            "Charger",
            "Keyboard",
            "Lamp",
            "Camera",
            "Mouse",
            "Power Bank",
            "Clock",
            "Router",
        ],
        ["Voltic", "Orbit", "Hexa", "Sonne", "Bitwise"],
    ),
    (
        "Fashion",
        32.0,
        [
            "Scarf",
            "Sneakers",
            "Jacket",
            "Belt",
            "Beanie",
            "Shirt",
            "Handbag",
            "Socks",
            "Dress",
            "Sunglasses",
        ],
        ["Alder", "Marlow", "Twill", "Côte", "Indigo"],
    ),
];
const BRANDS: usize = 5;
const ADJECTIVES: [&str; 16] = [
    "Classic", "Little", "Grand", "Everyday", "Winter", "Summer", "Travel", "Deluxe", "Simple", "Vintage", "Bold",
    "Soft", "Urban", "Wild", "Golden", "Quiet",
];

/// Countries with their share of customers, four cities each, and how often a parcel is late there.
pub(super) const COUNTRIES: [(&str, f64, [&str; 4], f64); 8] = [
    ("Germany", 0.24, ["Berlin", "Hamburg", "Munich", "Cologne"], 0.08),
    ("United Kingdom", 0.20, ["London", "Leeds", "Bristol", "Glasgow"], 0.13),
    ("France", 0.17, ["Paris", "Lyon", "Nantes", "Lille"], 0.10),
    (
        "Netherlands",
        0.11,
        ["Amsterdam", "Utrecht", "Rotterdam", "Groningen"],
        0.07,
    ),
    ("Spain", 0.10, ["Madrid", "Valencia", "Seville", "Bilbao"], 0.17),
    ("Italy", 0.08, ["Milan", "Rome", "Turin", "Bologna"], 0.20),
    ("Poland", 0.06, ["Warsaw", "Krakow", "Gdansk", "Poznan"], 0.16),
    ("Sweden", 0.04, ["Stockholm", "Gothenburg", "Malmo", "Uppsala"], 0.22),
];

pub(super) const CHANNELS: [&str; 3] = ["web", "app", "store"];
const IN_STORE: usize = 2;
pub(super) const PAYMENTS: [&str; 4] = ["card", "paypal", "invoice", "gift card"];
pub(super) const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
pub(super) const ACQUISITION: [&str; 5] = ["search", "social", "referral", "email", "store"];
pub(super) const TIERS: [&str; 3] = ["bronze", "silver", "gold"];

const FIRST_NAMES: [&str; 40] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kasia", "Liam", "Maya",
    "Nils", "Olga", "Pablo", "Quinn", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wim", "Ximena", "Yusuf", "Zoe", "Amir",
    "Bianca", "Carlos", "Dana", "Elif", "Felix", "Giulia", "Hana", "Ivan", "Julia", "Kofi", "Lena", "Marco", "Nora",
];
const LAST_NAMES: [&str; 40] = [
    "Becker",
    "Brown",
    "Costa",
    "Dubois",
    "Evans",
    "Fischer",
    "Garcia",
    "Haas",
    "Ivanov",
    "Jansen",
    "Kowalski",
    "Lindberg",
    "Martin",
    "Novak",
    "Okafor",
    "Petit",
    "Quist",
    "Rossi",
    "Schmidt",
    "Taylor",
    "Ullrich",
    "Visser",
    "Weber",
    "Young",
    "Zielinski",
    "Ahmed",
    "Bianchi",
    "Clarke",
    "Diaz",
    "Eriksson",
    "Fontaine",
    "Greco",
    "Hughes",
    "Iyer",
    "Jones",
    "Klein",
    "Lopez",
    "Moreau",
    "Nilsson",
    "Olsen",
];

/// What a random stream is for: each purpose of each customer has a stream of its own, so that a change in one leaves the
/// others as they were.
#[derive(Clone, Copy)]
enum Purpose {
    Products = 1,
    Profile = 2,
    Life = 3,
    Browsing = 4,
    Reviews = 5,
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of `z`.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn stream(seed: u64, number: u64, purpose: Purpose) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(mix(mix(mix(seed) ^ number) ^ purpose as u64))
}

// The distributions' constructors fail on parameters that cannot occur here; the fall-backs are their means.

fn poisson(rng: &mut Pcg64Mcg, mean: f64) -> u32 {
    Poisson::new(mean).map_or(0, |d| d.sample(rng) as u32)
}

/// Mean 1; the variance is 1 / `shape`.
fn gamma(rng: &mut Pcg64Mcg, shape: f64) -> f64 {
    Gamma::new(shape, 1.0 / shape).map_or(1.0, |d| d.sample(rng))
}

/// Median 1.
fn log_normal(rng: &mut Pcg64Mcg, sigma: f64) -> f64 {
    LogNormal::new(0.0, sigma).map_or(1.0, |d| d.sample(rng))
}

/// The index of one of `weights`, by weight.
fn choose(rng: &mut Pcg64Mcg, weights: impl Iterator<Item = f64> + Clone) -> usize {
    let mut left = rng.random::<f64>() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (i, w) in weights.enumerate() {
        last = i;
        left -= w;
        if left < 0.0 {
            break;
        }
    }
    last
}

fn chance(rng: &mut Pcg64Mcg, p: f64) -> bool {
    rng.random::<f64>() < p
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A moment of day `day`: few at night, most in the afternoon and evening.
fn moment(rng: &mut Pcg64Mcg, day: i32) -> i64 {
    let hour = 6.5 + 17.4 * (0.35 * rng.random::<f64>() + 0.65 * rng.random::<f64>());
    i64::from(day) * DAY_SECONDS + (hour * 3600.0) as i64
}

/// One product.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) name: String,
    /// Index into [`CATEGORIES`].
    pub(super) category: usize,
    /// Index into the category's brands.
    pub(super) brand: usize,
    pub(super) price_cents: i64,
    pub(super) cost_cents: i64,
    /// Days since 1970-01-01; NULL for what was there before records were kept.
    pub(super) launched: Option<i32>,
}

/// Products that are drawn by popularity: the n-th has a weight of 1 / (n + 2)^0.8.
#[derive(Debug, Default)]
struct Shelf {
    products: Vec<u32>,
    /// Running sums of the weights.
    cumulative: Vec<f64>,
}

impl Shelf {
    fn add(&mut self, product: u32) {
        let weight = (self.products.len() as f64 + 3.0).powf(-0.8);
        self.cumulative
            .push(self.cumulative.last().copied().unwrap_or(0.0) + weight);
        self.products.push(product);
    }

    fn draw(&self, rng: &mut Pcg64Mcg) -> Option<u32> {
        let at = rng.random::<f64>() * self.cumulative.last()?;
        let i = self.cumulative.partition_point(|c| *c <= at);
        self.products.get(i).or(self.products.last()).copied()
    }
}

/// A group of products that a customer likes, and the brand preferred within it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taste {
    pub(super) category: usize,
    pub(super) brand: usize,
    weight: f64,
}

/// Who a customer is: what the shop's records show, and what they do not.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) country: usize,
    pub(super) city: Option<&'static str>,
    /// Days since 1970-01-01.
    pub(super) signup: i32,
    pub(super) birth_year: Option<i32>,
    pub(super) acquisition: Option<usize>,
    pub(super) newsletter: bool,
    pub(super) tier: Option<usize>,
    /// Index into [`KINDS`]: not in the records.
    pub(super) kind: usize,
    /// Not in the records.
    pub(super) tastes: Vec<Taste>,
    /// Orders a month in an average month: not in the records.
    pub(super) monthly_orders: f64,
    lines: f64,
    discount: f64,
    views: f64,
    store_share: f64,
    app_share: f64,
    leaving: f64,
}

/// One order.
#[derive(Debug)]
pub(super) struct Order {
    /// Seconds since 1970-01-01.
    pub(super) at: i64,
    pub(super) customer: i64,
    pub(super) channel: usize,
    pub(super) payment: Option<usize>,
    pub(super) shipping_cents: i64,
    pub(super) discount_cents: i64,
    pub(super) total_cents: i64,
    /// Unknown for what was bought in the store.
    pub(super) delivery_days: Option<i32>,
    pub(super) items: Vec<Item>,
}

/// One line of an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) product: u32,
    pub(super) quantity: i32,
    pub(super) unit_cents: i64,
}

/// What a browsing event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    View,
    Cart,
    Search,
    Purchase,
    Support,
}

impl EventKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            EventKind::View => "view",
            EventKind::Cart => "cart",
            EventKind::Search => "search",
            EventKind::Purchase => "purchase",
            EventKind::Support => "support",
        }
    }
}

/// One event on the site.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: i64,
    /// Unknown where the visitor had not logged in.
    pub(super) customer: Option<i64>,
    pub(super) product: Option<u32>,
    pub(super) kind: EventKind,
    /// Index into [`DEVICES`].
    pub(super) device: Option<u8>,
}

/// One review.
#[derive(Debug)]
pub(super) struct Review {
    pub(super) at: i64,
    pub(super) customer: i64,
    pub(super) product: u32,
    pub(super) rating: Option<i32>,
    pub(super) text: Option<&'static str>,
}

/// What became of a customer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// The day on which the customer left for good: not in the records.
    pub(super) left: Option<i32>,
    /// No order in the last 90 days; unknown for whoever had not ordered before them.
    pub(super) churned: Option<bool>,
}

/// What customers did, not yet in order of time.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) orders: Vec<Order>,
    pub(super) events: Vec<Event>,
    pub(super) reviews: Vec<Review>,
}

impl History {
    /// Forgets everything, and keeps the memory for the next customers.
    pub(super) fn clear(&mut self) {
        self.orders.clear();
        self.events.clear();
        self.reviews.clear();
    }

    /// Puts everything in order of time, and of customers within a moment.
    pub(super) fn sort(&mut self) {
        // Stable: what one customer does within a second stays in the order in which it was done.
        self.orders.sort_by_key(|o| (o.at, o.customer));
        self.events.sort_by_key(|e| (e.at, e.customer));
        self.reviews.sort_by_key(|r| (r.at, r.customer));
    }

    /// Where the orders of a month are, once sorted.
    pub(super) fn orders_of(&self, month: usize) -> Range<usize> {
        let from = |m: usize| {
            self.orders
                .partition_point(|o| o.at < i64::from(month_start(m)) * DAY_SECONDS)
        };
        from(month)..from(month + 1)
    }

    /// Where the events of a month are, once sorted.
    pub(super) fn events_of(&self, month: usize) -> Range<usize> {
        let from = |m: usize| {
            self.events
                .partition_point(|e| e.at < i64::from(month_start(m)) * DAY_SECONDS)
        };
        from(month)..from(month + 1)
    }

    // A call or a review may come after the lake's last day; then it is not in the lake.

    fn add_event(&mut self, event: Event) {
        if event.at < i64::from(END_DAY) * DAY_SECONDS {
            self.events.push(event);
        }
    }

    fn add_review(&mut self, review: Review) {
        if review.at < i64::from(END_DAY) * DAY_SECONDS {
            self.reviews.push(review);
        }
    }
}

/// The shop: its seed and its shelves. Customers are derived from the seed when they are asked for.
#[derive(Debug)]
pub(super) struct Shop {
    seed: u64,
    pub(super) products: Vec<Product>,
    all: Shelf,
    by_category: Vec<Shelf>,
    by_brand: Vec<Vec<Shelf>>,
}

impl Shop {
    /// A shop with `product_count` products.
    pub(super) fn new(seed: u64, product_count: usize) -> Self {
        let mut rng = stream(seed, 0, Purpose::Products);
        let mut shop = Self {
            seed,
            products: Vec::with_capacity(product_count),
            all: Shelf::default(),
            by_category: CATEGORIES.iter().map(|_| Shelf::default()).collect(),
            by_brand: CATEGORIES
                .iter()
                .map(|_| (0..BRANDS).map(|_| Shelf::default()).collect())
                .collect(),
        };
        for i in 0..product_count {
            // Categories in turn, so that each has as many products and the first products of each are its popular ones.
            let category = i % CATEGORIES.len();
            let (_, median_price, nouns, brands) = &CATEGORIES[category];
            let brand = rng.random_range(0..BRANDS);
            let price = (median_price * log_normal(&mut rng, 0.5)).clamp(3.0, 900.0);
            let price_cents = price.floor() as i64 * 100 + if chance(&mut rng, 0.7) { 99 } else { 50 };
            let cost_cents = (price_cents as f64 * rng.random_range(0.42..0.68)) as i64;
            let launched = chance(&mut rng, 0.93).then(|| FIRST_DAY - rng.random_range(1..1600));
            let n = i / CATEGORIES.len();
            let noun = nouns[n % nouns.len()];
            let adjective = ADJECTIVES[(n / nouns.len() + n * 7) % ADJECTIVES.len()];
            // Beyond every adjective of every noun, a number tells them apart.
            let edition = n / (nouns.len() * ADJECTIVES.len());
            let mut name = format!("{} {adjective} {noun}", brands[brand]);
            if edition > 0 {
                name = format!("{name} {}", edition + 1);
            }
            shop.all.add(i as u32);
            shop.by_category[category].add(i as u32);
            shop.by_brand[category][brand].add(i as u32);
            shop.products.push(Product {
                name,
                category,
                brand,
                price_cents,
                cost_cents,
                launched,
            });
        }
        shop
    }

    /// Who customer `number` (from 0) is.
    pub(super) fn profile(&self, number: u64) -> Profile {
        let rng = &mut stream(self.seed, number, Purpose::Profile);
        let kind_index = choose(rng, KINDS.iter().map(|k| k.share));
        let kind = &KINDS[kind_index];
        let country = choose(rng, COUNTRIES.iter().map(|c| c.1));
        let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
        let last = LAST_NAMES[rng.random_range(0..LAST_NAMES.len())];
        let id = number as i64 + 1;
        // Domains and numbers that are set aside for examples and fiction.
        let email = format!("{}.{}{id}@example.com", first.to_lowercase(), last.to_lowercase());
        let phone = format!("+44 7700 900{:03}", rng.random_range(0..1000));
        // Two in five were customers before the lake begins; the others signed up through its 24 months.
        let signup = if chance(rng, 0.42) {
            FIRST_DAY - 1 - (1000.0 * rng.random::<f64>().powf(1.3)) as i32
        } else {
            FIRST_DAY + rng.random_range(0..END_DAY - FIRST_DAY)
        };
        let (mail_known, phone_known, city_known) = (chance(rng, 0.96), chance(rng, 0.55), chance(rng, 0.97));
        let city = COUNTRIES[country].2[choose(rng, [0.5, 0.22, 0.16, 0.12].into_iter())];
        let age = 18.0 + 24.0 * gamma(rng, 4.0);
        let birth_year = chance(rng, 0.78).then_some(2025 - (age as i32).min(92));
        let acquisition = chance(rng, 0.94).then(|| choose(rng, [0.38, 0.24, 0.14, 0.14, 0.10].into_iter()));
        let newsletter = chance(rng, if kind_index == 1 { 0.6 } else { 0.4 });
        let out_of_programme = 1.0 - kind.tiers.iter().sum::<f64>();
        let tier = choose(rng, kind.tiers.iter().copied().chain([out_of_programme]));
        let taste_count = 1 + choose(rng, [0.35, 0.4, 0.25].into_iter());
        let mut tastes: Vec<Taste> = vec![];
        while tastes.len() < taste_count {
            let category = rng.random_range(0..CATEGORIES.len());
            if tastes.iter().all(|t| t.category != category) {
                tastes.push(Taste {
                    category,
                    brand: rng.random_range(0..BRANDS),
                    weight: 0.4 + rng.random::<f64>(),
                });
            }
        }
        let store_share = if chance(rng, 0.15) { 0.6 } else { 0.05 };
        let app_share = if chance(rng, 0.4) { 0.75 } else { 0.1 };
        Profile {
            id,
            name: format!("{first} {last}"),
            email: mail_known.then_some(email),
            phone: phone_known.then_some(phone),
            country,
            city: city_known.then_some(city),
            signup,
            birth_year,
            acquisition,
            newsletter,
            tier: (tier < TIERS.len()).then_some(tier),
            kind: kind_index,
            tastes,
            monthly_orders: kind.orders * gamma(rng, 9.0),
            lines: kind.lines * log_normal(rng, 0.15),
            discount: logistic((kind.discount / (1.0 - kind.discount)).ln() + 0.5 * (gamma(rng, 4.0) - 1.0)),
            views: kind.views * gamma(rng, 2.0),
            store_share,
            app_share,
            leaving: kind.leaving - if newsletter { 0.35 } else { 0.0 },
        }
    }

    /// A product that appeals to a customer: four times in five from the tastes, and there mostly of the preferred brand.
    fn appealing(&self, profile: &Profile, rng: &mut Pcg64Mcg) -> u32 {
        let shelf = if chance(rng, 0.8) {
            let taste = profile.tastes[choose(rng, profile.tastes.iter().map(|t| t.weight))];
            if chance(rng, 0.55) {
                &self.by_brand[taste.category][taste.brand]
            } else {
                &self.by_category[taste.category]
            }
        } else {
            &self.all
        };
        // A brand may have nothing in a small shop.
        shelf.draw(rng).or_else(|| self.all.draw(rng)).unwrap_or(0)
    }

    /// The lines of a basket.
    fn basket(&self, profile: &Profile, year: i32, rng: &mut Pcg64Mcg) -> Vec<Item> {
        let kind = &KINDS[profile.kind];
        let line_count = 1 + poisson(rng, (profile.lines - 1.0).max(0.05));
        let mut items: Vec<Item> = Vec::with_capacity(line_count as usize);
        for _ in 0..line_count {
            let mut product = self.appealing(profile, rng);
            if chance(rng, kind.leaning.abs()) {
                let other = self.appealing(profile, rng);
                let dearer = self.products[other as usize].price_cents > self.products[product as usize].price_cents;
                if dearer == (kind.leaning > 0.0) {
                    product = other;
                }
            }
            if items.iter().any(|i| i.product == product) {
                continue;
            }
            // Prices rose by three per cent between the two years.
            let price = self.products[product as usize].price_cents;
            let unit_cents = if year == 2024 { price * 100 / 103 } else { price };
            let quantity = 1 + choose(rng, [0.84, 0.11, 0.03, 0.02].into_iter()) as i32;
            items.push(Item {
                product,
                quantity,
                unit_cents,
            });
        }
        items
    }

    /// Adds what a customer did in the lake's months to `history`, and says what became of the customer.
    ///
    /// Month by month: the customer may leave, the more likely the more went wrong lately (`trouble`: parcels that came late,
    /// calls for support; two fifths of it are forgotten each month) and the shorter the acquaintance; otherwise there are orders at the
    /// customer's own rate and visits without any.
    pub(super) fn simulate(&self, profile: &Profile, history: &mut History) -> Outcome {
        let rng = &mut stream(self.seed, profile.id as u64 - 1, Purpose::Life);
        let browsing = &mut stream(self.seed, profile.id as u64 - 1, Purpose::Browsing);
        let reviewing = &mut stream(self.seed, profile.id as u64 - 1, Purpose::Reviews);
        let kind = &KINDS[profile.kind];
        let (mut left, mut trouble) = (None, 0.0);
        let (mut before_cutoff, mut after_cutoff) = (false, false);
        for month in 0..MONTHS {
            let (start, end) = (month_start(month).max(profile.signup), month_start(month + 1));
            if start >= end {
                continue;
            }
            let tenure_years = f64::from(start - profile.signup) / 365.0;
            let hazard = logistic(profile.leaving + 1.7 * trouble - 0.45 * (1.0 + tenure_years).ln());
            // Nobody leaves in the month of the sign-up.
            let leaves = chance(rng, hazard) && start > profile.signup;
            let last_day = if leaves { rng.random_range(start..end) } else { end };
            trouble *= 0.6;

            let span = f64::from(last_day - start) / f64::from(MONTH_LENGTHS[month]);
            let mut days: Vec<i32> = vec![];
            if start == profile.signup && chance(rng, kind.first_order) {
                days.push(start);
            }
            if span > 0.0 {
                let count = poisson(rng, profile.monthly_orders * SEASON[month % 12] * span);
                days.extend((0..count).map(|_| rng.random_range(start..last_day)));
            }
            for day in days {
                let order = self.order(profile, day, rng);
                before_cutoff |= day < CUTOFF_DAY;
                after_cutoff |= day >= CUTOFF_DAY;
                let late = order.delivery_days.is_some_and(|d| d > LATE_DAYS);
                let mut calls = false;
                if late {
                    trouble += 0.8;
                    calls = chance(rng, 0.5);
                } else if chance(rng, 0.02) {
                    calls = true;
                }
                if calls {
                    trouble += 0.8;
                    let at = moment(rng, day + order.delivery_days.unwrap_or(1));
                    let customer = Some(profile.id);
                    history.add_event(Event {
                        at,
                        customer,
                        product: None,
                        kind: EventKind::Support,
                        device: None,
                    });
                }
                visit_with_order(&order, browsing, history);
                review(&order, late, reviewing, history);
                history.orders.push(order);
            }
            if span > 0.0 {
                for _ in 0..poisson(browsing, profile.views * span) {
                    let day = browsing.random_range(start..last_day);
                    self.visit(profile, day, browsing, history);
                }
            }
            if leaves {
                left = Some(last_day);
                break;
            }
        }
        Outcome {
            left,
            churned: before_cutoff.then_some(!after_cutoff),
        }
    }

    fn order(&self, profile: &Profile, day: i32, rng: &mut Pcg64Mcg) -> Order {
        let at = moment(rng, day);
        let year = if day < month_start(12) { 2024 } else { 2025 };
        let items = self.basket(profile, year, rng);
        let subtotal: i64 = items.iter().map(|i| i64::from(i.quantity) * i.unit_cents).sum();
        let app_share = profile.app_share.min(1.0 - profile.store_share);
        let channel = choose(
            rng,
            [1.0 - app_share - profile.store_share, app_share, profile.store_share].into_iter(),
        );
        let in_store = channel == IN_STORE;
        let percent = if chance(rng, profile.discount) {
            [10, 15, 20, 25][rng.random_range(0..4)]
        } else {
            0
        };
        let discount_cents = subtotal * percent / 100;
        let shipping_cents = if in_store || subtotal - discount_cents >= 5_000 {
            0
        } else {
            490
        };
        let payment = chance(rng, 0.98).then(|| choose(rng, [0.55, 0.25, 0.12, 0.08].into_iter()));
        let winter = matches!(month_of(day) % 12, 11 | 0);
        let late_chance = COUNTRIES[profile.country].3 + if winter { 0.06 } else { 0.0 };
        let delivery_days = if in_store {
            None
        } else if chance(rng, late_chance) {
            Some(LATE_DAYS + 1 + poisson(rng, 2.5) as i32)
        } else {
            Some((1 + poisson(rng, 1.4) as i32).min(LATE_DAYS))
        };
        Order {
            at,
            customer: profile.id,
            channel,
            payment,
            shipping_cents,
            discount_cents,
            total_cents: subtotal - discount_cents + shipping_cents,
            delivery_days,
            items,
        }
    }

    /// A visit without an order.
    fn visit(&self, profile: &Profile, day: i32, rng: &mut Pcg64Mcg, history: &mut History) {
        let at = moment(rng, day);
        let kind = [EventKind::View, EventKind::Search, EventKind::Cart][choose(rng, [0.76, 0.14, 0.10].into_iter())];
        let product = (kind != EventKind::Search).then(|| self.appealing(profile, rng));
        let customer = chance(rng, 0.94).then_some(profile.id);
        history.add_event(Event {
            at,
            customer,
            product,
            kind,
            device: device(rng),
        });
    }
}

/// The month of a day of the lake, counted from January 2024.
pub(super) fn month_of(day: i32) -> usize {
    (0..MONTHS).rev().find(|m| month_start(*m) <= day).unwrap_or(0)
}

/// A parcel that takes more days than these is late.
pub(super) const LATE_DAYS: i32 = 5;

fn device(rng: &mut Pcg64Mcg) -> Option<u8> {
    chance(rng, 0.97).then(|| choose(rng, [0.58, 0.34, 0.08].into_iter()) as u8)
}

/// What the site sees of an order that was not made in the store: products looked at, and the purchase.
fn visit_with_order(order: &Order, rng: &mut Pcg64Mcg, history: &mut History) {
    if order.channel == IN_STORE {
        return;
    }
    let device = device(rng);
    let customer = Some(order.customer);
    for item in &order.items {
        let product = Some(item.product);
        if chance(rng, 0.3) {
            // Moments are after six in the morning: this stays within the day.
            let at = order.at - rng.random_range(30..1500);
            history.add_event(Event {
                at,
                customer,
                product,
                kind: EventKind::View,
                device,
            });
        }
    }
    if let Some(item) = order.items.first() {
        let product = Some(item.product);
        history.add_event(Event {
            at: order.at,
            customer,
            product,
            kind: EventKind::Purchase,
            device,
        });
    }
}

fn review(order: &Order, late: bool, rng: &mut Pcg64Mcg, history: &mut History) {
    let Some(item) = order.items.first() else { return };
    if !chance(rng, if late { 0.2 } else { 0.11 }) {
        return;
    }
    let weights = if late {
        [0.28, 0.22, 0.22, 0.18, 0.10]
    } else {
        [0.03, 0.05, 0.12, 0.32, 0.48]
    };
    let stars = choose(rng, weights.into_iter());
    let texts: &[&str] = match stars {
        0 | 1 if late => &[
            "Arrived far too late.",
            "Waited for ever, and nobody answered.",
            "Late again.",
        ],
        0 | 1 => &[
            "Broke within a week.",
            "Not what the picture shows.",
            "Would not buy again.",
        ],
        2 => &["It is all right.", "Does the job, no more.", "Good, but overpriced."],
        3 => &["Good quality.", "Nice, as described.", "Happy with it."],
        _ => &[
            "Love it!",
            "Exactly what I wanted.",
            "Best one I have had.",
            "Bought a second as a gift.",
        ],
    };
    let text = chance(rng, 0.68).then(|| texts[rng.random_range(0..texts.len())]);
    let rating = chance(rng, 0.99).then_some(stars as i32 + 1);
    let at = order.at
        + i64::from(order.delivery_days.unwrap_or(0)) * DAY_SECONDS
        + rng.random_range(3_600..12 * DAY_SECONDS);
    history.add_review(Review {
        at,
        customer: order.customer,
        product: item.product,
        rating,
        text,
    });
}

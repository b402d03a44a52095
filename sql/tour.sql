-- # The lake
-- A shop's lake: folders of Parquet files, a table each. Orders, their items and the visits to the
-- site lie in one folder a month; everything else in one.

SELECT
    'customers' AS "table", count(*) AS row_count,
    CAST(min(signup_date) AS VARCHAR) AS first, CAST(max(signup_date) AS VARCHAR) AS last
FROM customers
UNION ALL
SELECT 'products', count(*), CAST(min(launched) AS VARCHAR), CAST(max(launched) AS VARCHAR)
FROM products
UNION ALL
SELECT 'orders', count(*), CAST(min(ordered_at) AS VARCHAR), CAST(max(ordered_at) AS VARCHAR)
FROM orders
UNION ALL
SELECT 'order_items', count(*), min(month), max(month) FROM order_items
UNION ALL
SELECT 'events', count(*), CAST(min(ts) AS VARCHAR), CAST(max(ts) AS VARCHAR)
FROM events
UNION ALL
SELECT 'reviews', count(*), CAST(min(created_at) AS VARCHAR), CAST(max(created_at) AS VARCHAR)
FROM reviews
ORDER BY row_count DESC;

-- # What is missing
-- As in any real shop. The models take NULLs as they come: a missing number counts as the mean, a
-- missing word is a category of its own.

WITH shares AS (
    SELECT 'customers.phone' AS "column", count(phone) / CAST(count(*) AS DOUBLE) AS known
    FROM customers
    UNION ALL
    SELECT 'customers.loyalty_tier', count(loyalty_tier) / CAST(count(*) AS DOUBLE) FROM customers
    UNION ALL
    SELECT 'customers.birth_year', count(birth_year) / CAST(count(*) AS DOUBLE) FROM customers
    UNION ALL
    SELECT 'customers.churned', count(churned) / CAST(count(*) AS DOUBLE) FROM customers
    UNION ALL
    SELECT 'orders.delivery_days', count(delivery_days) / CAST(count(*) AS DOUBLE) FROM orders
    UNION ALL
    SELECT 'events.customer_id', count(customer_id) / CAST(count(*) AS DOUBLE) FROM events
    UNION ALL
    SELECT 'reviews.text', count(text) / CAST(count(*) AS DOUBLE) FROM reviews
)
SELECT
    "column", round(100 * (1 - known), 1) AS percent,
    repeat('█', CAST(round(50 * (1 - known)) AS BIGINT)) AS missing
FROM shares
ORDER BY percent DESC;

-- # Can it be trusted?
-- Three checks before any model: do the items add up to the orders, is every item a product's, and
-- has any customer ordered before signing up? All should be zero.

SELECT
    (SELECT count(*)
     FROM orders
     JOIN (
         SELECT order_id, sum(quantity * unit_price) AS subtotal FROM order_items GROUP BY order_id
     ) AS items ON items.order_id = orders.order_id
     WHERE abs(total - (subtotal - discount + shipping)) > 0.005) AS totals_off,
    (SELECT count(*)
     FROM order_items
     LEFT JOIN products ON products.product_id = order_items.product_id
     WHERE products.product_id IS NULL) AS unknown_products,
    (SELECT count(*)
     FROM orders
     JOIN customers ON customers.customer_id = orders.customer_id
     WHERE CAST(ordered_at AS DATE) < signup_date) AS orders_too_early;

-- # The year
-- Revenue by month. The column month comes from the folders' names, so only twelve of them are read.

SELECT
    month,
    count(*) AS orders,
    CAST(round(sum(total)) AS BIGINT) AS revenue,
    repeat('█', CAST(round(40 * sum(total) / max(sum(total)) OVER ()) AS BIGINT)) AS bar
FROM orders
WHERE month >= '2025-01'
GROUP BY month
ORDER BY month;

-- # Recency, frequency, monetary
-- The three numbers that tell most about a customer: days since the last order, orders in the year,
-- and the usual basket. All three have long tails, so we keep their logarithms too. A row is a
-- customer in a year.

CREATE OR REPLACE TABLE rfm AS
SELECT
    *,
    ln(1 + days_since) AS recency,
    ln(orders) AS frequency,
    ln(basket) AS monetary
FROM (
    SELECT
        2024 AS year, customer_id, DATE '2025-01-01' - CAST(max(ordered_at) AS DATE) AS days_since,
        count(*) AS orders, avg(total) AS basket, sum(total) AS revenue
    FROM orders
    WHERE month < '2025-01'
    GROUP BY customer_id
    UNION ALL
    SELECT
        2025, customer_id, DATE '2026-01-01' - CAST(max(ordered_at) AS DATE),
        count(*), avg(total), sum(total)
    FROM orders
    WHERE month >= '2025-01'
    GROUP BY customer_id
);

-- # Who came back lately
-- Customers by the months since their last order. Most came within weeks; the long tail is what
-- churn is about. Those who came lately also came often: the three numbers hang together.

SELECT
    days_since / 30 AS months_since,
    count(*) AS customers,
    round(avg(orders), 1) AS orders,
    round(avg(basket), 2) AS basket,
    repeat('█', CAST(round(40.0 * count(*) / max(count(*)) OVER ()) AS BIGINT)) AS bar
FROM rfm
WHERE year = 2025
GROUP BY days_since / 30
ORDER BY months_since;

-- # Segments
-- KMEANS_SEGMENT takes a query, fits, and adds the segment to its rows: 1 is the largest. Nobody told
-- it of kinds of customer, yet regulars, big baskets, small bargains and the lost come apart.

SELECT
    segment,
    count(*) AS customers,
    CAST(median(days_since) AS BIGINT) AS days_since,
    CAST(median(orders) AS BIGINT) AS orders,
    round(median(basket), 2) AS basket,
    round(100 * sum(revenue) / sum(sum(revenue)) OVER (), 1) AS revenue_share,
    repeat('█', CAST(round(30 * sum(revenue) / sum(sum(revenue)) OVER ()) AS BIGINT)) AS revenue
FROM KMEANS_SEGMENT(
    (SELECT * FROM rfm WHERE year = 2025),
    k => 4, features => ['recency', 'frequency', 'monetary'], starts => 5
)
GROUP BY segment
ORDER BY segment;

-- # A model that stays
-- ML.TRAIN stores the same model under a name, beside the lake. What it returns is how the fit went:
-- five starts from different rows, of which the one with the least loss is kept.

SELECT
    training_run, count(*) AS passes, round(min(loss), 3) AS loss,
    round(sum(duration_ms), 1) AS duration_ms
FROM ML.TRAIN(
    'segments', (SELECT * FROM rfm WHERE year = 2025),
    model_type => 'kmeans', k => 4, features => ['recency', 'frequency', 'monetary'], starts => 5
)
GROUP BY training_run
ORDER BY training_run;

-- # Where they moved
-- A stored model scores any rows, here those of the year before: where the customers of each segment
-- of 2024 were a year later. The column "gone" is who did not order in 2025 at all.

WITH scored AS (
    SELECT year, customer_id, KMEANS_SEGMENT('segments', recency, frequency, monetary) AS segment
    FROM rfm
)
SELECT
    a.segment AS "segment in 2024",
    count(*) AS customers,
    count(*) FILTER (WHERE b.segment = 1) AS "to 1",
    count(*) FILTER (WHERE b.segment = 2) AS "to 2",
    count(*) FILTER (WHERE b.segment = 3) AS "to 3",
    count(*) FILTER (WHERE b.segment = 4) AS "to 4",
    count(*) FILTER (WHERE b.segment IS NULL) AS gone
FROM (SELECT * FROM scored WHERE year = 2024) AS a
LEFT JOIN (SELECT * FROM scored WHERE year = 2025) AS b ON b.customer_id = a.customer_id
GROUP BY a.segment
ORDER BY a.segment;

-- # Features for churn
-- Who will order nothing for 90 days? We ask it of those who ordered in the last 180, on two dates:
-- for 3 October the answer is known by now, for 1 January not yet. No feature looks beyond its date.

CREATE OR REPLACE TABLE churn_features AS
WITH dates AS (
    SELECT * FROM (VALUES (TIMESTAMP '2025-10-03'), (TIMESTAMP '2026-01-01')) AS d(as_of)
),
bought AS (
    SELECT
        as_of, customer_id,
        ln(1 + date_part('day', as_of - max(ordered_at))) AS recency,
        ln(count(*) / (30.0 + least(640, date_part('day', as_of - min(ordered_at))))) AS order_rate,
        ln(1 + count(*) FILTER (WHERE ordered_at >= as_of - INTERVAL '90 days')) AS orders_90,
        ln(avg(total)) AS basket,
        avg(CASE WHEN discount > 0 THEN 1.0 ELSE 0.0 END) AS discounted,
        count(*) FILTER (WHERE late AND ordered_at >= as_of - INTERVAL '90 days') AS late_90
    FROM dates JOIN orders ON ordered_at < as_of
    GROUP BY as_of, customer_id
    HAVING max(ordered_at) >= as_of - INTERVAL '180 days'
),
visited AS (
    SELECT
        as_of, customer_id,
        count(*) FILTER (WHERE kind = 'support') AS support_90,
        ln(1 + count(*) FILTER (WHERE kind IN ('view', 'cart', 'search'))) AS visits_90
    FROM dates JOIN events ON ts < as_of AND ts >= as_of - INTERVAL '90 days'
    WHERE customer_id IS NOT NULL
    GROUP BY as_of, customer_id
)
SELECT
    b.*, coalesce(support_90, 0) AS support_90, coalesce(visits_90, 0) AS visits_90,
    ln(1 + (CAST(b.as_of AS DATE) - signup_date)) AS tenure, newsletter, loyalty_tier, country,
    CASE WHEN b.as_of < TIMESTAMP '2026-01-01' THEN churned END AS churned
FROM bought AS b
JOIN customers AS c ON c.customer_id = b.customer_id
LEFT JOIN visited AS v ON v.customer_id = b.customer_id AND v.as_of = b.as_of;

-- # What goes with leaving
-- Before any model: does trouble drive customers away? Late parcels and calls for support in 90 days,
-- among those with three orders or more in them, of whom silence says something.

SELECT
    least(late_90 + support_90, 4) AS troubles,
    count(*) AS customers,
    round(100 * avg(CAST(churned AS INT)), 1) AS percent_left,
    repeat('█', CAST(round(100 * avg(CAST(churned AS INT))) AS BIGINT)) AS bar
FROM churn_features
WHERE churned IS NOT NULL AND orders_90 >= ln(4)
GROUP BY least(late_90 + support_90, 4)
ORDER BY troubles;

-- # Churn scores
-- CHURN_SCORE adds to each row the probability that its label is true, by a model that has not seen
-- the row (cross-fitting, five folds). So what follows is honest.

CREATE OR REPLACE TABLE scores AS
SELECT customer_id, churned, churn_score
FROM CHURN_SCORE(
    (SELECT * FROM churn_features WHERE churned IS NOT NULL),
    label => 'churned', id => ['customer_id', 'as_of']
);

-- # How good they are
-- The area under the curve (auc) is the chance that one who left has a higher score than one who
-- stayed; guessing gives 0.5. The log loss stands beside that of giving everybody the average.

WITH ranked AS (
    SELECT
        CAST(churned AS INT) AS y,
        churn_score AS p,
        rank() OVER (ORDER BY churn_score)
            + (count(*) OVER (PARTITION BY churn_score) - 1) / 2.0 AS r
    FROM scores
)
SELECT
    count(*) AS customers,
    round(avg(y), 3) AS left_share,
    round(
        (sum(r * y) - sum(y) * (sum(y) + 1) / 2.0) / (sum(y) * (count(*) - sum(y))), 4
    ) AS auc,
    round(-avg(CASE WHEN y = 1 THEN ln(p) ELSE ln(1 - p) END), 4) AS log_loss,
    round(-(avg(y) * ln(avg(y)) + (1 - avg(y)) * ln(1 - avg(y))), 4) AS log_loss_of_average
FROM ranked;

-- # Lift
-- Customers in ten equal groups by score: how many of each left, and how many times the average that
-- is. The first groups are where a letter pays.

SELECT
    decile,
    round(avg(churn_score), 3) AS mean_score,
    round(avg(CAST(churned AS INT)), 3) AS left_share,
    round(avg(CAST(churned AS INT)) / (SELECT avg(CAST(churned AS INT)) FROM scores), 2) AS lift,
    repeat('█', CAST(round(40 * avg(CAST(churned AS INT))) AS BIGINT)) AS bar
FROM (SELECT *, ntile(10) OVER (ORDER BY churn_score DESC) AS decile FROM scores)
GROUP BY decile
ORDER BY decile;

-- # Today's scores
-- A model on all of October's rows, stored, for the customers as they are on 1 January.

SELECT iteration, round(loss, 5) AS loss, round(duration_ms, 2) AS duration_ms
FROM ML.TRAIN(
    'churn', (SELECT * FROM churn_features WHERE churned IS NOT NULL),
    model_type => 'logistic_reg', label => 'churned', id => ['customer_id', 'as_of']
)
ORDER BY iteration;

-- # Whom to write to
-- Customers with a score above a third, by the revenue of the year that is at stake.

SELECT
    f.customer_id, name, country, CAST(round(revenue) AS BIGINT) AS revenue, days_since,
    round(score, 3) AS churn_score, CAST(round(score * revenue) AS BIGINT) AS at_stake
FROM (
    SELECT
        customer_id,
        CHURN_SCORE(
            'churn', recency, order_rate, orders_90, basket, discounted, late_90, support_90,
            visits_90, tenure, newsletter, loyalty_tier, country
        ) AS score
    FROM churn_features
    WHERE as_of = TIMESTAMP '2026-01-01'
) AS f
JOIN customers AS c ON c.customer_id = f.customer_id
JOIN rfm ON rfm.customer_id = f.customer_id AND year = 2025
WHERE score > 0.33
ORDER BY at_stake DESC
LIMIT 10;

-- # Recommendations
-- RECOMMEND learns who buys what, and ranks for each customer what they do not have yet. Here for ten
-- of them, beside the category that each buys most: the model knows nothing of categories.

WITH favourites AS (
    SELECT customer_id, category AS favourite
    FROM (
        SELECT
            customer_id, category,
            row_number() OVER (
                PARTITION BY customer_id ORDER BY sum(quantity) DESC, category
            ) AS place
        FROM order_items JOIN products ON products.product_id = order_items.product_id
        GROUP BY customer_id, category
    )
    WHERE place = 1
)
SELECT
    r.customer_id, favourite, rank, p.category, p.name AS product, price, round(r.score, 3) AS score
FROM RECOMMEND(
    (SELECT customer_id, product_id, sum(quantity) AS quantity
     FROM order_items
     GROUP BY customer_id, product_id),
    user => 'customer_id', item => 'product_id', rating => 'quantity', n => 3
) AS r
JOIN products AS p ON p.product_id = r.product_id
JOIN favourites AS f ON f.customer_id = r.customer_id
WHERE r.customer_id IN (
    SELECT customer_id FROM rfm WHERE year = 2025 AND orders >= 12 ORDER BY customer_id LIMIT 10
)
ORDER BY r.customer_id, rank;

-- # Are they any good?
-- We hide each customer's last order, and ask for ten products by the orders before it. How much of
-- what was new to the customer in it is among the ten, and would the best sellers have done as well?
-- EASE is RECOMMEND's other method: one exact solution, quick where the products are few.

WITH numbered AS (
    SELECT
        customer_id, product_id,
        order_id = max(order_id) OVER (PARTITION BY customer_id) AS hidden
    FROM order_items
),
known AS (
    SELECT DISTINCT customer_id, product_id FROM numbered WHERE NOT hidden
),
wanted AS (
    SELECT n.customer_id, n.product_id
    FROM numbered AS n
    LEFT ANTI JOIN known AS k ON k.customer_id = n.customer_id AND k.product_id = n.product_id
    WHERE hidden
),
best_sellers AS (
    SELECT
        customer_id, product_id,
        row_number() OVER (PARTITION BY customer_id ORDER BY sold DESC, product_id) AS place
    FROM (SELECT DISTINCT customer_id FROM known) AS u
    CROSS JOIN (
        SELECT product_id, count(*) AS sold
        FROM known
        GROUP BY product_id
        ORDER BY sold DESC, product_id
        LIMIT 120
    ) AS p
    LEFT ANTI JOIN known AS k ON k.customer_id = u.customer_id AND k.product_id = p.product_id
),
listed AS (
    SELECT 'RECOMMEND, by EASE' AS method, customer_id, product_id
    FROM RECOMMEND(
        (SELECT * FROM known),
        user => 'customer_id', item => 'product_id', method => 'ease', n => 10
    )
    UNION ALL
    SELECT 'best sellers', customer_id, product_id FROM best_sellers WHERE place <= 10
)
SELECT
    method,
    count(*) AS found,
    round(100.0 * count(*) / (SELECT count(*) FROM wanted), 1) AS percent_found,
    repeat('█', CAST(round(100.0 * count(*) / (SELECT count(*) FROM wanted)) AS BIGINT)) AS bar
FROM listed AS l
JOIN wanted AS w ON w.customer_id = l.customer_id AND w.product_id = l.product_id
GROUP BY method
ORDER BY percent_found DESC;

-- # What was trained
-- Models are files beside the lake: a new session finds them again, and any tool can read them.

SELECT name, version, model_type, row_count, created_at
FROM ml.models
ORDER BY name, version;

-- # What else there is
-- Every function, from the table ml.functions, which also has their arguments and an example of each,
-- and those of GoogleSQL.

SELECT
    name, form,
    CASE WHEN length(description) < 50 THEN description ELSE left(description, 49) || '…' END AS about
FROM ml.functions
WHERE form <> 'GoogleSQL'
ORDER BY name, form;

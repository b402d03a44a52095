CREATE OR REPLACE TABLE rfm AS
SELECT
  CAST(CustomerID AS INT64) AS customer_id,
  DATE_DIFF(DATE '2011-12-31', DATE(MAX(InvoiceDate)), DAY) AS recency,
  COUNT(DISTINCT InvoiceNo) AS frequency,
  ROUND(SUM(Quantity * UnitPrice), 2) AS monetary,
  ANY_VALUE(Country) AS country
FROM `bigquery-public-data.retail.online_retail`
WHERE CustomerID IS NOT NULL
GROUP BY CustomerID;
SELECT * FROM rfm ORDER BY customer_id LIMIT 3

CREATE OR REPLACE MODEL retail.customer_segments
OPTIONS (MODEL_TYPE='kmeans', NUM_CLUSTERS=4, DISTANCE_TYPE='EUCLIDEAN', STANDARDIZE_FEATURES=TRUE, KMEANS_INIT_METHOD='KMEANS++', MAX_ITERATIONS=30) AS
SELECT * EXCEPT(customer_id) FROM rfm

SELECT centroid_id, feature, numerical_value, cv.category, cv.value
FROM ML.CENTROIDS(MODEL retail.customer_segments) LEFT JOIN UNNEST(categorical_value) AS cv
ORDER BY centroid_id, feature, cv.category

CREATE OR REPLACE TABLE segments AS
SELECT centroid_id AS segment, * EXCEPT (centroid_id, nearest_centroids_distance)
FROM ML.PREDICT(MODEL retail.customer_segments, TABLE rfm);
SELECT segment, COUNT(*) AS customers, ROUND(AVG(recency)) AS recency, APPROX_QUANTILES(monetary, 100)[OFFSET(50)] AS median
FROM segments GROUP BY segment ORDER BY segment

CREATE OR REPLACE MODEL retail.segmenter OPTIONS(model_type='logistic_reg', input_label_cols=['segment'], data_split_method='SEQ', data_split_col='customer_id', data_split_eval_fraction=0.1) AS
SELECT * FROM segments

SELECT customer_id, predicted_segment, (SELECT MAX(p.prob) FROM UNNEST(predicted_segment_probs) p) AS best FROM ML.PREDICT(MODEL retail.segmenter, TABLE rfm) ORDER BY customer_id LIMIT 5

CREATE OR REPLACE MODEL retail.clv
OPTIONS (model_type='linear_reg', input_label_cols=['target_monetary'], optimize_strategy='batch_gradient_descent', learn_rate_strategy='constant', learn_rate=0.1, model_registry='vertex_ai') AS
WITH orders AS (
  SELECT CustomerID AS id, DATE(InvoiceDate) AS day, SUM(UnitPrice * Quantity) AS amount
  FROM `bigquery-public-data.retail.online_retail`
  WHERE customerid IS NOT NULL
  GROUP BY 1, 2
)
SELECT SUM(IF(day > "2011-03-01", amount, 0)) AS target_monetary,
  SUM(IF(day <= '2011-03-01', amount, 0)) AS monetary,
  COUNTIF(day <= '2011-03-01') AS frequency,
  SAFE_DIVIDE(SUM(amount), COUNT(*)) AS basket,
  LN(1 + SUM(amount)) AS log_amount,
  DATE_DIFF(MAX(day), MIN(day), WEEK) AS weeks
FROM orders GROUP BY id

SELECT ROUND(r2_score, 3) AS r2, explained_variance FROM ML.EVALUATE(MODEL retail.clv)

SELECT StockCode, description, SUM(quantity) AS units, STRING_AGG(DISTINCT Country ORDER BY Country) AS countries
FROM `bigquery-public-data.retail.online_retail`
WHERE REGEXP_CONTAINS(StockCode, r'^S\d$')
GROUP BY StockCode, Description
HAVING units > 10
ORDER BY units DESC

CREATE OR REPLACE MODEL retail.basket OPTIONS(model_type='matrix_factorization', feedback_type='implicit', user_col='CustomerID', item_col='StockCode', rating_col='purchases') AS
SELECT CAST(CustomerID AS INT64) AS CustomerID, StockCode, COUNT(*) AS purchases FROM `bigquery-public-data.retail.online_retail` WHERE CustomerID IS NOT NULL GROUP BY customerID, stockCode

SELECT * EXCEPT(predicted_purchases_confidence), ROUND(predicted_purchases_confidence, 2) AS score FROM ML.RECOMMEND(MODEL retail.basket, (SELECT 12001 AS customerId)) ORDER BY score DESC, StockCode LIMIT 3

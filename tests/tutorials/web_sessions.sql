#standardSQL
CREATE OR REPLACE MODEL `bqml_tutorial.sample_model`
OPTIONS(model_type='logistic_reg') AS
SELECT
  IF(totals.transactions IS NULL, 0, 1) AS label,
  IFNULL(device.operatingSystem, "") AS os,
  device.isMobile AS is_mobile,
  IFNULL(geoNetwork.country, "") AS country,
  IFNULL(totals.pageviews, 0) AS pageviews
FROM
  `bigquery-public-data.google_analytics_sample.ga_sessions`
WHERE
  date BETWEEN '20160801' AND '20161015'

SELECT * FROM ML.TRAINING_INFO(MODEL `bqml_tutorial.sample_model`)

SELECT
  roc_auc, CASE WHEN roc_auc > .9 THEN 'good' WHEN roc_auc > .8 THEN 'fair' ELSE "poor" END AS model_quality
FROM ML.EVALUATE(MODEL `bqml_tutorial.sample_model`, (
  SELECT
    IF(totals.transactions IS NULL, 0, 1) AS label,
    IFNULL(device.operatingSystem, "") AS os,
    device.isMobile AS is_mobile,
    IFNULL(geoNetwork.country, "") AS country,
    IFNULL(totals.pageviews, 0) AS pageviews
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`
  WHERE date > "20161015"))

# Purchases by country.
SELECT country, SUM(predicted_label) AS total_predicted_purchases
FROM ML.PREDICT(MODEL `bqml_tutorial.sample_model`, (
  SELECT
    IFNULL(device.operatingSystem, "") AS os,
    device.isMobile AS is_mobile,
    IFNULL(totals.pageviews, 0) AS pageviews,
    IFNULL(geoNetwork.country, "") AS country
  FROM `bigquery-public-data`.google_analytics_sample.ga_sessions))
GROUP BY country
ORDER BY total_predicted_purchases DESC
LIMIT 10

# Purchases by visitor.
SELECT fullVisitorId, SUM(predicted_label) AS total_predicted_purchases
FROM ML.PREDICT(MODEL `bqml_tutorial.sample_model`, (
  SELECT
    IFNULL(device.operatingSystem, "") AS os,
    device.isMobile AS is_mobile,
    IFNULL(totals.pageviews, 0) AS pageviews,
    IFNULL(geoNetwork.country, "") AS country,
    fullVisitorId
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`))
GROUP BY fullVisitorId
ORDER BY total_predicted_purchases DESC
LIMIT 10

SELECT * FROM ML.ROC_CURVE(MODEL `bqml_tutorial.sample_model`, (
  SELECT IF(totals.transactions IS NULL, 0, 1) AS label, IFNULL(device.operatingSystem, "") AS os, device.isMobile AS is_mobile,
    IFNULL(geoNetwork.country, "") AS country, IFNULL(totals.pageviews, 0) AS pageviews,
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`),
  GENERATE_ARRAY(0.1, 0.9, 0.1))

WITH all_visitor_stats AS (
  SELECT fullvisitorid, # 700 visitors
    IF(COUNTIF(totals.transactions > 0 AND totals.bounces IS NULL) > 0, 1, 0) AS will_buy_on_return_visit
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`
  GROUP BY fullvisitorid
)
SELECT COUNT(DISTINCT fullvisitorid) AS total_visitors, will_buy_on_return_visit
FROM all_visitor_stats
GROUP BY will_buy_on_return_visit

CREATE OR REPLACE MODEL `ecommerce.classification_model`
OPTIONS
(
model_type='logistic_reg',
labels = ['will_buy_on_return_visit']
)
AS
#standardSQL
SELECT
  * EXCEPT(fullVisitorId)
FROM
  # features
  (SELECT
    fullVisitorId,
    IFNULL(totals.bounces, 0) AS bounces,
    IFNULL(totals.timeOnSite, 0) AS time_on_site
  FROM
    `bigquery-public-data.google_analytics_sample.ga_sessions`
  WHERE
    totals.visits = 1
    AND date BETWEEN '20160801' AND '20161101') # train on some months
  JOIN
  (SELECT
    fullvisitorid,
    IF(COUNTIF(totals.transactions > 0 AND totals.bounces IS NULL) > 0, 1, 0) AS will_buy_on_return_visit
  FROM
    `bigquery-public-data.google_analytics_sample.ga_sessions`
  GROUP BY fullvisitorid)
  USING (fullVisitorId)
;
SELECT
  roc_auc,
  CASE
    WHEN roc_auc > .9 THEN 'good'
    ELSE 'poor' END AS model_quality
FROM
  ML.EVALUATE(MODEL ecommerce.classification_model);

CREATE OR REPLACE MODEL `ecommerce.classification_model_2`
OPTIONS (model_type='LOGISTIC_REG', labels=["will_buy"], AUTO_CLASS_WEIGHTS=TRUE, L2_REG=0.1) AS
WITH visits AS (
  SELECT
    CONCAT(fullvisitorid, CAST(visitId AS STRING)) AS unique_session_id,
    IF(totals.transactions IS NULL, 0, 1) AS will_buy,
    MAX(CAST(totals.hits AS INT64)) AS latest_ecommerce_progress,
    IFNULL(totals.bounces, 0) AS bounces,
    IFNULL(totals.timeOnSite, 0) AS time_on_site,
    IFNULL(totals.pageviews, 0) AS pageviews,
    trafficSource.source,
    trafficSource.medium,
    channelGrouping,
    device.deviceCategory,
    IFNULL(geoNetwork.country, "") AS country
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`
  WHERE totals.visits = 1
  GROUP BY unique_session_id, will_buy, bounces, time_on_site, totals.pageviews, trafficSource.source, trafficSource.medium, channelGrouping, device.deviceCategory, country
)
SELECT * EXCEPT(unique_session_id) FROM visits

SELECT channelGrouping, deviceCategory, predicted_will_buy,
  (SELECT p.prob FROM UNNEST(predicted_will_buy_probs) AS p WHERE p.label = 1) AS probability
FROM ML.PREDICT(MODEL `ecommerce.classification_model_2`, (
  SELECT totals.hits AS latest_ecommerce_progress, IFNULL(totals.bounces, 0) AS bounces, IFNULL(totals.timeOnSite, 0) AS time_on_site,
    IFNULL(totals.pageviews, 0) AS pageviews, trafficSource.source, trafficSource.medium, channelGrouping, device.deviceCategory, IFNULL(geoNetwork.country, "") AS country
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`), STRUCT(0.55 AS threshold))
ORDER BY probability DESC
LIMIT 5

SELECT expected_label, _0 AS not_bought, _1 AS bought
FROM ML.CONFUSION_MATRIX(MODEL `ecommerce.classification_model_2`, (
  SELECT IF(totals.transactions IS NULL, 0, 1) AS will_buy, totals.hits AS latest_ecommerce_progress, IFNULL(totals.bounces, 0) AS bounces, IFNULL(totals.timeOnSite, 0) AS time_on_site,
    IFNULL(totals.pageviews, 0) AS pageviews, trafficSource.source, trafficSource.medium, channelGrouping, device.deviceCategory, IFNULL(geoNetwork.country, "") AS country
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions`), STRUCT(0.4 AS threshold))

CREATE OR REPLACE MODEL web.nested OPTIONS(model_type='linear_reg', input_label_cols=['timeOnSite']) AS
SELECT totals.timeOnSite, device, geoNetwork, totals.pageviews AS pageViews
FROM `bigquery-public-data.google_analytics_sample.ga_sessions`
WHERE totals.timeonsite IS NOT NULL

SELECT processed_input, w.weight, c.category, c.weight AS of_category FROM ML.WEIGHTS(MODEL web.nested) AS w LEFT JOIN UNNEST(category_weights) AS c ORDER BY 1, 3

SELECT predicted_timeOnSite, predicted_timeonsite - timeonsite AS error
FROM ML.PREDICT(MODEL web.nested, (SELECT totals.timeOnSite, device, geoNetwork, totals.pageviews AS pageviews FROM `bigquery-public-data.google_analytics_sample.ga_sessions`))
LIMIT 3

# Names in any case, and fields by their own names.
WITH visits AS (
  SELECT DISTINCT FullVisitorID, device.deviceCategory, TOTALS.pageViews, `visitid`
  FROM `bigquery-public-data.google_analytics_sample.ga_sessions` AS s
  WHERE s.totals.PageViews > 2
)
SELECT v.fullvisitorid, DeviceCategory, COUNT(*) AS Visits, SUM(v.PAGEVIEWS) AS views, MAX(visitId) AS last
FROM visits AS v
GROUP BY v.fullVisitorId, devicecategory
HAVING visits > 1
ORDER BY VIEWS DESC, 1
LIMIT 3

SELECT DISTINCT device.browser, geoNetwork.country
FROM `bigquery-public-data.google_analytics_sample.ga_sessions`
ORDER BY browser, country

CREATE OR REPLACE MODEL web.mobile
TRANSFORM(* EXCEPT(ismobile, VISITID), ML.QUANTILE_BUCKETIZE(visitID, 3) OVER () AS visit, isMobile)
OPTIONS(model_type='logistic_reg', input_label_cols=['ISMOBILE']) AS
SELECT device.isMobile, visitId, channelGrouping, geoNetwork.region FROM `bigquery-public-data.google_analytics_sample.ga_sessions`

SELECT predicted_ismobile, predicted_isMobile_probs[OFFSET(0)].prob,
  (SELECT prob FROM UNNEST(predicted_isMobile_probs) WHERE label = TRUE) AS p
FROM ML.PREDICT(MODEL web.mobile, (SELECT visitID, CHANNELgrouping, geonetwork.REGION FROM `bigquery-public-data.google_analytics_sample.ga_sessions`))
WHERE EXISTS(SELECT 1 FROM UNNEST(predicted_isMobile_probs) AS q WHERE q.prob > 0.6)
ORDER BY p DESC
LIMIT 3

SELECT * FROM ML.CONFUSION_MATRIX(MODEL `bqml_tutorial.sample_model`)

SELECT * FROM ML.ROC_CURVE(MODEL `bqml_tutorial.sample_model`)
